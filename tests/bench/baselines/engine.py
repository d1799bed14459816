"""The bare engine: the same statements on the same folder, in this process, without HTTP, gRPC or Python
around them.

python tests/bench/baselines/engine.py FOLDER < statements

FOLDER is a warehouse nobody else has open. Each line of the input is {"name", "sql", "parameters"}, with
parameters in ClickHouse's escaped form; each line of the output {"name", "ms": [...], "answer"}.
"""

import json
import sys
import time

REPEATS = 8


def main(folder: str) -> None:
    from chdb import session

    engine = session.Session(folder)
    for line in sys.stdin:
        asked = json.loads(line)
        took = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            answer = engine.query(asked["sql"], "JSONCompactEachRow", params=asked["parameters"])
            took.append((time.perf_counter() - began) * 1000)
        print(json.dumps({"name": asked["name"], "ms": took, "answer": str(answer).strip()}), flush=True)
    engine.close()


if __name__ == "__main__":
    main(sys.argv[1])
