"""The bare engine: the same statements on the same folder, in this process, without HTTP, gRPC or Python
around them.

python tests/bench/baselines/engine.py FOLDER < statements

FOLDER is a warehouse nobody else has open. Each line of the input is {"name", "sql", "parameters"}, with
parameters in ClickHouse's escaped form; each line of the output {"name", "ms": [...], "cpu_ms": [...], "answer"}.
"""

import json
import sys
import time

REPEATS = 5


def main(folder: str) -> None:
    from chdb import session

    engine = session.Session(folder)
    for line in sys.stdin:
        asked = json.loads(line)
        took, spent = [], []
        for _ in range(REPEATS):
            began, before = time.perf_counter(), time.process_time()
            answer = engine.query(asked["sql"], "JSONCompactEachRow", params=asked["parameters"])
            took.append((time.perf_counter() - began) * 1000)
            spent.append((time.process_time() - before) * 1000)
        found = {"name": asked["name"], "ms": took, "cpu_ms": spent, "answer": str(answer).strip()}
        print(json.dumps(found), flush=True)
    engine.close()


if __name__ == "__main__":
    main(sys.argv[1])
