"""SQLAlchemy models and repositories."""
