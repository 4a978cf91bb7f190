-- What a translated request could not say, and what is special about a model on a channel.
ALTER TABLE attempt ADD COLUMN dropped TEXT;

ALTER TABLE route ADD COLUMN options TEXT DEFAULT '{}' NOT NULL;
