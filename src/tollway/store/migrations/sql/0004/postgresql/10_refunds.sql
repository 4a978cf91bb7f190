-- A refund covers what was charged beyond the hold, too: `refunded_over` counts that part, up to the overage's entry.
ALTER TABLE hold ADD COLUMN refunded_over BIGINT DEFAULT 0 NOT NULL CONSTRAINT ck_hold_refunded_over CHECK (refunded_over >= 0);

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
  INTO rows, odd, stray, accounts FROM added n;
  IF rows = 0 THEN
    RETURN NULL;
  ELSIF odd THEN
    RAISE EXCEPTION 'illegal: a hold begins as held' USING ERRCODE = 'check_violation';
  ELSIF stray THEN
    RAISE EXCEPTION 'illegal: only an open hold of the same wallet and budget is extended' USING ERRCODE = 'check_violation';
  END IF;
  PERFORM 1 FROM ledger_account WHERE id = ANY (accounts) ORDER BY id FOR NO KEY UPDATE;
  WITH sums AS (
    SELECT wallet AS id, 'wallet' AS kind, sum(amount)::bigint AS amount FROM added GROUP BY wallet
    UNION ALL
    SELECT budget, 'budget', sum(amount)::bigint FROM added WHERE budget IS NOT NULL GROUP BY budget
    UNION ALL
    SELECT project_budget, 'budget', sum(amount)::bigint FROM added WHERE project_budget IS NOT NULL GROUP BY project_budget
  ), done AS (
    UPDATE ledger_account a SET held = a.held + s.amount FROM sums s WHERE a.id = s.id AND a.kind = s.kind RETURNING a.id
  )
  SELECT count(*) INTO moved FROM done;
  IF cardinality(accounts) <> moved THEN
    RAISE EXCEPTION 'illegal: a hold is on a wallet and counts against a budget' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION tollway_entry_added() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  wrong text;
  refunds boolean;
  accounts bigint[];
BEGIN
  SELECT bool_or(e.kind = 'refund'),
    COALESCE(array_agg(DISTINCT e.debit) FILTER (WHERE e.debit > 4), '{}')
      || COALESCE(array_agg(DISTINCT e.credit) FILTER (WHERE e.credit > 4), '{}'),
    max(CASE
      WHEN e.kind IN ('settle', 'budget', 'overage', 'refund') AND NOT EXISTS (
        SELECT 1 FROM hold h WHERE h.id = e.hold_id AND h.state = 'settled' AND CASE e.kind
          WHEN 'settle' THEN e.id = 's:' || h.id AND e.debit = h.wallet AND e.credit = 2 AND e.amount = h.settled
          WHEN 'budget' THEN e.credit = 1 AND (
            e.debit = h.budget AND (e.id = 'b:' || h.id AND e.amount = h.settled OR e.id = 'ob:' || h.id)
            OR e.debit = h.project_budget AND (e.id = 'p:' || h.id AND e.amount = h.settled OR e.id = 'op:' || h.id))
          WHEN 'overage' THEN e.id = 'o:' || h.id AND e.debit = h.wallet AND e.credit = 2
          WHEN 'refund' THEN e.debit = 2 AND e.credit = h.wallet
        END) THEN 'this entry belongs to a settled hold and follows its terms'
      WHEN e.kind IN ('grant', 'topup', 'adjust', 'expire') AND NOT EXISTS (
        SELECT 1 FROM ledger_account w
        WHERE w.kind = 'wallet'
          AND w.id = CASE WHEN e.kind IN ('grant', 'topup') OR e.kind = 'adjust' AND e.debit = 1 THEN e.credit ELSE e.debit END
          AND CASE e.kind
            WHEN 'grant' THEN e.debit = 4
            WHEN 'topup' THEN e.debit = 1
            WHEN 'expire' THEN e.credit = 4
            ELSE 1 IN (e.debit, e.credit)
          END) THEN 'this kind of entry does not join these accounts'
      WHEN e.kind = 'absorb' AND (e.id IS DISTINCT FROM 'a:' || e.hold_id OR e.debit <> 3 OR e.credit <> 2)
        THEN 'what is absorbed goes from absorbed to revenue'
    END)
  INTO refunds, accounts, wrong FROM added e;
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION 'illegal: %', wrong USING ERRCODE = 'check_violation';
  ELSIF accounts = '{}' THEN
    RETURN NULL;
  END IF;
  PERFORM 1 FROM ledger_account WHERE id = ANY (accounts) ORDER BY id FOR NO KEY UPDATE;
  WITH sums AS (
    SELECT id, sum(debited)::bigint AS debited, sum(credited)::bigint AS credited FROM (
      SELECT debit AS id, amount AS debited, 0 AS credited FROM added WHERE debit > 4
      UNION ALL
      SELECT credit, 0, amount FROM added WHERE credit > 4
    ) sides GROUP BY id
  )
  UPDATE ledger_account a SET debited = a.debited + s.debited, credited = a.credited + s.credited
  FROM sums s WHERE a.id = s.id;
  IF refunds THEN
    UPDATE hold h SET refunded = LEAST(h.settled, h.refunded + s.amount),
      refunded_over = h.refunded_over + GREATEST(0, h.refunded + s.amount - h.settled)
    FROM (SELECT hold_id, sum(amount)::bigint AS amount FROM added WHERE kind = 'refund' GROUP BY hold_id) s
    WHERE h.id = s.hold_id;
    IF EXISTS (
      SELECT 1 FROM added e JOIN hold h ON h.id = e.hold_id
        LEFT JOIN entry o ON o.id = 'o:' || h.id AND o.kind = 'overage' AND o.hold_id = h.id
      WHERE e.kind = 'refund' AND h.refunded_over > COALESCE(o.amount, 0)
    ) THEN
      RAISE EXCEPTION 'illegal: refunds stay within what was charged' USING ERRCODE = 'check_violation';
    END IF;
  END IF;
  RETURN NULL;
END $$;

DROP TRIGGER hold_fixed ON hold;

CREATE TRIGGER hold_fixed BEFORE UPDATE ON hold FOR EACH ROW
WHEN (NEW.id <> OLD.id OR NEW.wallet <> OLD.wallet OR NEW.budget IS DISTINCT FROM OLD.budget
  OR NEW.project_budget IS DISTINCT FROM OLD.project_budget OR NEW.amount <> OLD.amount
  OR NEW.extends IS DISTINCT FROM OLD.extends OR NEW.price_version <> OLD.price_version OR NEW.owner <> OLD.owner
  OR NEW.created_at <> OLD.created_at OR NEW.refunded < OLD.refunded OR NEW.refunded_over < OLD.refunded_over)
EXECUTE FUNCTION tollway_illegal('a hold keeps its terms');

DROP TRIGGER hold_refunded ON hold;

CREATE TRIGGER hold_refunded BEFORE UPDATE ON hold FOR EACH ROW
WHEN (pg_trigger_depth() = 0 AND (NEW.refunded <> OLD.refunded OR NEW.refunded_over <> OLD.refunded_over))
EXECUTE FUNCTION tollway_illegal('refunds follow entries');
