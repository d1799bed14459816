"""What every Rondo service shares: records, topics, the stream loop, time, ids."""
