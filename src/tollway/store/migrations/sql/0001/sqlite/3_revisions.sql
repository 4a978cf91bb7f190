-- Each change of what processes keep in memory raises a number they watch.
INSERT INTO revision (topic, number) VALUES ('keys', 0), ('catalogue', 0);

CREATE TRIGGER revision_account_insert AFTER INSERT ON account
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'keys';
END;

CREATE TRIGGER revision_account_update AFTER UPDATE ON account
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'keys';
END;

CREATE TRIGGER revision_account_delete AFTER DELETE ON account
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'keys';
END;

CREATE TRIGGER revision_project_insert AFTER INSERT ON project
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'keys';
END;

CREATE TRIGGER revision_project_update AFTER UPDATE ON project
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'keys';
END;

CREATE TRIGGER revision_project_delete AFTER DELETE ON project
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'keys';
END;

CREATE TRIGGER revision_api_key_insert AFTER INSERT ON api_key
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'keys';
END;

CREATE TRIGGER revision_api_key_update AFTER UPDATE ON api_key
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'keys';
END;

CREATE TRIGGER revision_api_key_delete AFTER DELETE ON api_key
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'keys';
END;

CREATE TRIGGER revision_channel_insert AFTER INSERT ON channel
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'catalogue';
END;

CREATE TRIGGER revision_channel_update AFTER UPDATE ON channel
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'catalogue';
END;

CREATE TRIGGER revision_channel_delete AFTER DELETE ON channel
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'catalogue';
END;

CREATE TRIGGER revision_model_insert AFTER INSERT ON model
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'catalogue';
END;

CREATE TRIGGER revision_model_update AFTER UPDATE ON model
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'catalogue';
END;

CREATE TRIGGER revision_model_delete AFTER DELETE ON model
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'catalogue';
END;

CREATE TRIGGER revision_model_alias_insert AFTER INSERT ON model_alias
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'catalogue';
END;

CREATE TRIGGER revision_model_alias_update AFTER UPDATE ON model_alias
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'catalogue';
END;

CREATE TRIGGER revision_model_alias_delete AFTER DELETE ON model_alias
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'catalogue';
END;

CREATE TRIGGER revision_route_insert AFTER INSERT ON route
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'catalogue';
END;

CREATE TRIGGER revision_route_update AFTER UPDATE ON route
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'catalogue';
END;

CREATE TRIGGER revision_route_delete AFTER DELETE ON route
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'catalogue';
END;

CREATE TRIGGER revision_price_version_insert AFTER INSERT ON price_version
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'catalogue';
END;

CREATE TRIGGER revision_price_version_update AFTER UPDATE ON price_version
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'catalogue';
END;

CREATE TRIGGER revision_price_version_delete AFTER DELETE ON price_version
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'catalogue';
END;
