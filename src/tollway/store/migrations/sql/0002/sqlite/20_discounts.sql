-- What customers pay less than the price, what a call was given, and how a model is asked.
CREATE TABLE discount (
  scope TEXT NOT NULL,
  owner TEXT NOT NULL,
  hundredths INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  CONSTRAINT pk_discount PRIMARY KEY (scope, owner),
  CONSTRAINT ck_discount_scope CHECK (scope IN ('account','group')),
  CONSTRAINT ck_discount_hundredths CHECK (hundredths BETWEEN 1 AND 10000)
) STRICT;

ALTER TABLE call ADD COLUMN discount INTEGER DEFAULT 0 NOT NULL;

ALTER TABLE model ADD COLUMN parameters TEXT DEFAULT '{}' NOT NULL;

CREATE TRIGGER revision_discount_insert AFTER INSERT ON discount
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'catalogue';
END;

CREATE TRIGGER revision_discount_update AFTER UPDATE ON discount
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'catalogue';
END;

CREATE TRIGGER revision_discount_delete AFTER DELETE ON discount
BEGIN
  UPDATE revision SET number = number + 1 WHERE topic = 'catalogue';
END;
