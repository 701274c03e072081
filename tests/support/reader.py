"""Reads a cluster with Kubernetes' own Python client: lists, watches, a log, exec, port-forward.

Takes a namespace's pod and a port of it that speaks HTTP; the kubeconfig comes from $KUBECONFIG.
"""

import sys

from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import portforward, stream

pod, port = sys.argv[1], int(sys.argv[2])
config.load_kube_config()
core, apps = client.CoreV1Api(), client.AppsV1Api()

listed = core.list_namespaced_pod("default")
assert pod in [item.metadata.name for item in listed.items], listed
assert apps.read_namespaced_deployment("web", "default").status.available_replicas == 1
assert core.list_node().items[0].status.conditions, "nodes have conditions"
first = core.list_namespaced_pod("default", limit=1)
assert first.metadata._continue, "a list in pages goes on"
custom = client.CustomObjectsApi().list_cluster_custom_object("kgit.dev", "v1", "reconciles")
assert custom["items"], "kgit's own nouns are listed"

seen = set()
for event in watch.Watch().stream(core.list_namespaced_pod, "default", timeout_seconds=2):
    assert event["type"] == "ADDED" or seen, event["type"]
    seen.add(event["object"].metadata.name)
assert pod in seen, seen

assert "started" in core.read_namespaced_pod_log("talker", "default")

command = ["sh", "-c", "echo out; echo err >&2"]
said = stream(
    core.connect_get_namespaced_pod_exec, "talker", "default", command=command,
    stderr=True, stdin=False, stdout=True, tty=False,
)
assert "out" in said and "err" in said, said

forward = portforward(core.connect_get_namespaced_pod_portforward, pod, "default", ports=str(port))
socket = forward.socket(port)
socket.setblocking(True)
socket.sendall(b"GET / HTTP/1.0\r\n\r\n")
answer = b""
while piece := socket.recv(65536):
    answer += piece
assert b"hello from" in answer, answer
assert forward.error(port) is None, forward.error(port)

passed_on = core.connect_get_namespaced_pod_proxy(f"{pod}:{port}", "default")
assert "hello from" in passed_on, passed_on

try:
    core.delete_namespaced_pod("talker", "default")
    raise AssertionError("a write was not refused")
except ApiException as refused:
    assert refused.status == 405 and "web.yaml" in refused.body, refused
ended = core.delete_namespaced_pod(pod, "default")
assert ended.metadata.deletion_timestamp is not None, ended
print("all read")
