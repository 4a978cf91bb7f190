-- Who paid for what becomes one number in every row of the rollups, and longer spans are built by the job once they are over.
CREATE TEMPORARY TABLE rollup_before AS SELECT * FROM rollup;

DELETE FROM rollup_before WHERE kept = 0 AND bucket >= COALESCE((SELECT value FROM mark WHERE topic = 'rolled'), 0);

INSERT INTO mark (topic, value) SELECT 'summed', value FROM mark WHERE topic = 'rolled';

DROP TABLE rollup;

DROP TABLE rollup_sum;

CREATE TABLE rollup_place (
  id INTEGER NOT NULL,
  account_id TEXT NOT NULL,
  project_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  model TEXT NOT NULL,
  channel_id TEXT NOT NULL,
  owner INTEGER,
  of_key INTEGER,
  of_model_channel INTEGER,
  of_key_model INTEGER,
  CONSTRAINT pk_rollup_place PRIMARY KEY (id),
  CONSTRAINT uq_rollup_place_account_id_project_id_key_id_model_channel_id UNIQUE (account_id, project_id, key_id, model, channel_id)
) STRICT;

CREATE TABLE rollup (
  bucket INTEGER NOT NULL,
  kept INTEGER NOT NULL,
  place INTEGER NOT NULL,
  owner INTEGER NOT NULL,
  calls INTEGER DEFAULT 0 NOT NULL,
  failures INTEGER DEFAULT 0 NOT NULL,
  charged INTEGER DEFAULT 0 NOT NULL,
  absorbed INTEGER DEFAULT 0 NOT NULL,
  refunded INTEGER DEFAULT 0 NOT NULL,
  cost INTEGER DEFAULT 0 NOT NULL,
  unpriced INTEGER DEFAULT 0 NOT NULL,
  tokens_in INTEGER DEFAULT 0 NOT NULL,
  tokens_cached INTEGER DEFAULT 0 NOT NULL,
  tokens_out INTEGER DEFAULT 0 NOT NULL,
  CONSTRAINT pk_rollup PRIMARY KEY (bucket, kept, place),
  CONSTRAINT ck_rollup_kept CHECK (kept IN (0, 1))
) WITHOUT ROWID, STRICT;

CREATE TABLE rollup_sum (
  span TEXT NOT NULL CONSTRAINT ck_rollup_sum_span CHECK (span = 'quarter' OR span = 'hour' OR span = 'watch' OR span = 'day' OR span = 'week' OR span = 'month'),
  grain TEXT NOT NULL CONSTRAINT ck_rollup_sum_grain CHECK (grain = 'model_channel' OR grain = 'key' OR grain = 'key_model' OR grain = 'full'),
  bucket INTEGER NOT NULL,
  place INTEGER NOT NULL,
  owner INTEGER NOT NULL,
  calls INTEGER DEFAULT 0 NOT NULL,
  failures INTEGER DEFAULT 0 NOT NULL,
  charged INTEGER DEFAULT 0 NOT NULL,
  absorbed INTEGER DEFAULT 0 NOT NULL,
  refunded INTEGER DEFAULT 0 NOT NULL,
  cost INTEGER DEFAULT 0 NOT NULL,
  unpriced INTEGER DEFAULT 0 NOT NULL,
  tokens_in INTEGER DEFAULT 0 NOT NULL,
  tokens_cached INTEGER DEFAULT 0 NOT NULL,
  tokens_out INTEGER DEFAULT 0 NOT NULL,
  CONSTRAINT pk_rollup_sum PRIMARY KEY (span, grain, bucket, place)
) WITHOUT ROWID, STRICT;

CREATE INDEX ix_rollup_sum_owner ON rollup_sum (owner, span, grain, bucket) WHERE owner > 0;

INSERT INTO rollup_place (account_id, project_id, key_id, model, channel_id)
SELECT account_id, project_id, key_id, model, channel_id FROM rollup_before
UNION SELECT account_id, project_id, key_id, model, '' FROM rollup_before
UNION SELECT account_id, project_id, key_id, '', '' FROM rollup_before
UNION SELECT account_id, '', '', '', '' FROM rollup_before
UNION SELECT '', '', '', model, channel_id FROM rollup_before;

UPDATE rollup_place AS l SET
  owner = (SELECT o.id FROM rollup_place o WHERE o.account_id = l.account_id AND o.project_id = '' AND o.key_id = '' AND o.model = '' AND o.channel_id = ''),
  of_key = (SELECT o.id FROM rollup_place o WHERE o.account_id = l.account_id AND o.project_id = l.project_id AND o.key_id = l.key_id AND o.model = '' AND o.channel_id = ''),
  of_model_channel = (SELECT o.id FROM rollup_place o WHERE o.account_id = '' AND o.project_id = '' AND o.key_id = '' AND o.model = l.model AND o.channel_id = l.channel_id),
  of_key_model = (SELECT o.id FROM rollup_place o WHERE o.account_id = l.account_id AND o.project_id = l.project_id AND o.key_id = l.key_id AND o.model = l.model AND o.channel_id = '');

INSERT INTO rollup (bucket, kept, place, owner, calls, failures, charged, absorbed, refunded, cost, unpriced, tokens_in, tokens_cached, tokens_out)
SELECT b.bucket, b.kept, l.id, l.owner, b.calls, b.failures, b.charged, b.absorbed, b.refunded, b.cost, b.unpriced, b.tokens_in, b.tokens_cached, b.tokens_out
FROM rollup_before b JOIN rollup_place l ON l.account_id = b.account_id AND l.project_id = b.project_id AND l.key_id = b.key_id AND l.model = b.model AND l.channel_id = b.channel_id;

DROP TABLE rollup_before;
