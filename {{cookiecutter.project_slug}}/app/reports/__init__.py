"""What happens in the desk, in figures and charts. It reads the database and never writes to it."""
