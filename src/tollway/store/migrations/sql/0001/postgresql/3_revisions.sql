-- Each change of what processes keep in memory raises a number they watch, and tells those who listen.
INSERT INTO revision (topic, number) VALUES ('keys', 0), ('catalogue', 0);

CREATE FUNCTION tollway_changed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = TG_ARGV[0];
  PERFORM pg_notify('tollway', TG_ARGV[0]);
  RETURN NULL;
END $$;

CREATE TRIGGER revision_account AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON account
FOR EACH STATEMENT EXECUTE FUNCTION tollway_changed('keys');

CREATE TRIGGER revision_project AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON project
FOR EACH STATEMENT EXECUTE FUNCTION tollway_changed('keys');

CREATE TRIGGER revision_api_key AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON api_key
FOR EACH STATEMENT EXECUTE FUNCTION tollway_changed('keys');

CREATE TRIGGER revision_channel AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON channel
FOR EACH STATEMENT EXECUTE FUNCTION tollway_changed('catalogue');

CREATE TRIGGER revision_model AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON model
FOR EACH STATEMENT EXECUTE FUNCTION tollway_changed('catalogue');

CREATE TRIGGER revision_model_alias AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON model_alias
FOR EACH STATEMENT EXECUTE FUNCTION tollway_changed('catalogue');

CREATE TRIGGER revision_route AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON route
FOR EACH STATEMENT EXECUTE FUNCTION tollway_changed('catalogue');

CREATE TRIGGER revision_price_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON price_version
FOR EACH STATEMENT EXECUTE FUNCTION tollway_changed('catalogue');
