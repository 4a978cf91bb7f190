-- What customers pay less than the price, what a call was given, and how a model is asked.
CREATE TABLE discount (
  scope TEXT NOT NULL,
  owner TEXT NOT NULL,
  hundredths BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  CONSTRAINT pk_discount PRIMARY KEY (scope, owner),
  CONSTRAINT ck_discount_scope CHECK (scope IN ('account','group')),
  CONSTRAINT ck_discount_hundredths CHECK (hundredths BETWEEN 1 AND 10000)
);

ALTER TABLE call ADD COLUMN discount BIGINT DEFAULT 0 NOT NULL;

ALTER TABLE model ADD COLUMN parameters TEXT DEFAULT '{}' NOT NULL;

CREATE TRIGGER revision_discount AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON discount
FOR EACH STATEMENT EXECUTE FUNCTION tollway_changed('catalogue');
