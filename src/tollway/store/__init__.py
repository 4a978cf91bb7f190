"""The database: one Store protocol, spoken by SQLite and PostgreSQL alike."""
