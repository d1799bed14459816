import os, time
from tests.integration.delivery.test_delivery_process import *  # noqa
from tests.integration.delivery.test_delivery_process import log, service, smtp  # noqa
for _n in [n for n in list(globals()) if n.startswith("test_")]:
    del globals()[_n]
def cpu(pid):
    f=open(f"/proc/{pid}/stat").read().rsplit(")",1)[1].split(); return (int(f[11])+int(f[12]))/os.sysconf("SC_CLK_TCK")
def test_perf(service, log, smtp):
    smtp._latency=0
    n=4000
    log.members(n)
    time.sleep(3)
    pid=service._child.pid
    a=cpu(pid); t=time.time()
    for i in range(n): log.send(i, f"{log.workspace}-{i}")
    log.flush()
    while len(smtp.mails)<n: time.sleep(0.01)
    el=time.time()-t
    log.read(lambda: len(log.outcomes())==n)
    print("CPU s per 1000", (cpu(pid)-a)/n*1000, "rate", n/el)
