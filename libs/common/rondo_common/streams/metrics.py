"""What the loop tells Prometheus. Labels are stage, topic, partition, kinds and reasons: never a key."""

from rondo_common import telemetry

INPUTS = telemetry.counter("rondo_stream_inputs_total", "Inputs handled, by kind", ("stage", "kind"))
RECORDS = telemetry.counter("rondo_stream_records_total", "Records handled, by topic", ("stage", "topic"))
EMITTED = telemetry.counter("rondo_stream_emitted_total", "Records written, by topic", ("stage", "topic"))
TALLY = telemetry.counter("rondo_stream_tally_total", "Records written, by what they say", ("stage", "what"))
DROPPED = telemetry.counter("rondo_stream_dropped_total", "Inputs with nothing to do, by reason", ("stage", "reason"))
DEAD = telemetry.counter("rondo_stream_dead_letters_total", "Dead letters, by reason", ("stage", "reason"))
WAITS = telemetry.counter("rondo_stream_waits_total", "Records offered too early", ("stage",))
TRANSACTIONS = telemetry.counter("rondo_stream_transactions_total", "Transactions, by outcome", ("stage", "outcome"))
COMMIT = telemetry.histogram("rondo_stream_commit_seconds", "One transaction, first write to committed", ("stage",))
BATCH = telemetry.histogram(
    "rondo_stream_batch_inputs",
    "Inputs of one transaction",
    ("stage",),
    (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000),
)
LAG = telemetry.gauge("rondo_stream_lag", "Records after the last processed one", ("stage", "topic", "partition"))
LIVE = telemetry.gauge("rondo_stream_partitions_live", "Partitions restored and being processed", ("stage",))
RESTORING = telemetry.gauge("rondo_stream_partitions_restoring", "Partitions being restored", ("stage",))
RESTORED = telemetry.counter("rondo_stream_restored_records_total", "State records replayed into Redis", ("stage",))
RESTORES = telemetry.counter("rondo_stream_restores_total", "Restores begun, by why", ("stage", "why"))
STATE_BYTES = telemetry.histogram(
    "rondo_stream_state_bytes", "Size of the states written", ("stage",), (128, 512, 1024, 4096, 16384, 65536, 262144)
)
STATE_BIG = telemetry.counter(
    "rondo_stream_state_over_16k_total", "States written with more than 16 KB", ("stage", "kind")
)
TASKS = telemetry.counter("rondo_stream_tasks_total", "Tasks handed to the effector", ("stage",))
DISCARDED = telemetry.counter("rondo_stream_answers_discarded_total", "Answers for partitions given away", ("stage",))
PENDING = telemetry.gauge(
    "rondo_stream_pending", "Work begun or due that no offset shows; `rondo lag --wait` waits for 0", ("stage", "what")
)
