"""The revisions, in the form Alembic finds them; what they do is in the SQL scripts beside this folder."""
