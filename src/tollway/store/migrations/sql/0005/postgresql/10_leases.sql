-- A lease is an open hold of a process that belongs to no call. The hold of a call that was drawn from it is written closed,
-- with its settlement: `lease` names where its credits were set aside meanwhile.
ALTER TABLE hold ADD COLUMN lease TEXT;

CREATE OR REPLACE FUNCTION tollway_hold_added() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  rows bigint;
  odd boolean;
  stray boolean;
  accounts bigint[];
  moved bigint;
BEGIN
  SELECT count(*), bool_or(n.state <> 'held' OR n.refunded <> 0 OR n.refunded_over <> 0),
    bool_or(n.extends IS NOT NULL AND NOT EXISTS (
      SELECT 1 FROM hold h WHERE h.id = n.extends AND h.state = 'held' AND h.extends IS NULL
        AND h.wallet = n.wallet AND h.budget IS NOT DISTINCT FROM n.budget
        AND h.project_budget IS NOT DISTINCT FROM n.project_budget)),
    array_agg(DISTINCT n.wallet) || COALESCE(array_agg(DISTINCT n.budget) FILTER (WHERE n.budget IS NOT NULL), '{}')
      || COALESCE(array_agg(DISTINCT n.project_budget) FILTER (WHERE n.project_budget IS NOT NULL), '{}')
  INTO rows, odd, stray, accounts FROM added n WHERE n.lease IS NULL;
  IF rows = 0 THEN
    RETURN NULL;
  ELSIF odd THEN
    RAISE EXCEPTION 'illegal: a hold begins as held' USING ERRCODE = 'check_violation';
  ELSIF stray THEN
    RAISE EXCEPTION 'illegal: only an open hold of the same wallet and budget is extended' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM 1 FROM ledger_account WHERE id = ANY (accounts) ORDER BY id FOR NO KEY UPDATE;
  WITH sums AS (
    SELECT wallet AS id, 'wallet' AS kind, sum(amount)::bigint AS amount FROM added WHERE lease IS NULL GROUP BY wallet
    UNION ALL
    SELECT budget, 'budget', sum(amount)::bigint FROM added WHERE lease IS NULL AND budget IS NOT NULL GROUP BY budget
    UNION ALL
    SELECT project_budget, 'budget', sum(amount)::bigint FROM added WHERE lease IS NULL AND project_budget IS NOT NULL GROUP BY project_budget
  ), done AS (
    UPDATE ledger_account a SET held = a.held + s.amount FROM sums s WHERE a.id = s.id AND a.kind = s.kind RETURNING a.id
  )
  SELECT count(*) INTO moved FROM done;
  IF cardinality(accounts) <> moved THEN
    RAISE EXCEPTION 'illegal: a hold is on a wallet and counts against a budget' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION tollway_hold_drawn() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
  IF EXISTS (
    SELECT 1 FROM added n WHERE n.lease IS NOT NULL AND (
      n.state = 'held' OR n.refunded <> 0 OR n.refunded_over <> 0
      OR n.extends IS NOT NULL OR n.budget IS NOT NULL OR n.project_budget IS NOT NULL)
  ) THEN
    RAISE EXCEPTION 'illegal: a hold drawn from a lease begins closed and counts against no budget' USING ERRCODE = 'check_violation';
  ELSIF EXISTS (
    SELECT 1 FROM added n WHERE n.lease IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM hold h WHERE h.id = n.lease AND h.state = 'held' AND h.wallet = n.wallet)
  ) THEN
    RAISE EXCEPTION 'illegal: a hold is drawn from an open lease of the same wallet' USING ERRCODE = 'check_violation';
  END IF;
  INSERT INTO entry (id, debit, credit, amount, kind, hold_id, at)
  SELECT 's:' || n.id, n.wallet, 2, n.settled, 'settle', n.id, n.closed_at
  FROM added n WHERE n.lease IS NOT NULL AND n.settled > 0;
  RETURN NULL;
END $$;

CREATE TRIGGER hold_drawn AFTER INSERT ON hold REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION tollway_hold_drawn();

DROP TRIGGER hold_fixed ON hold;

CREATE TRIGGER hold_fixed BEFORE UPDATE ON hold FOR EACH ROW
WHEN (NEW.id <> OLD.id OR NEW.wallet <> OLD.wallet OR NEW.budget IS DISTINCT FROM OLD.budget
  OR NEW.project_budget IS DISTINCT FROM OLD.project_budget OR NEW.amount <> OLD.amount
  OR NEW.extends IS DISTINCT FROM OLD.extends OR NEW.price_version <> OLD.price_version OR NEW.owner <> OLD.owner
  OR NEW.created_at <> OLD.created_at OR NEW.lease IS DISTINCT FROM OLD.lease OR NEW.refunded < OLD.refunded OR NEW.refunded_over < OLD.refunded_over)
EXECUTE FUNCTION tollway_illegal('a hold keeps its terms');
