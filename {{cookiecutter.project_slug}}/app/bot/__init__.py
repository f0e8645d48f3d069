"""The bot: receives what people write to the community, answers what it can, delivers what is in the outbox."""
