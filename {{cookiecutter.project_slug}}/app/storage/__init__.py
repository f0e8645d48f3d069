"""Tables, sessions, queues and migrations: what the services share, and all that they share."""
