"""The chart, rendered by Helm itself."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm"


def render(values=None, *, name="demo", namespace="prod"):
    """Return the rendered manifests, in their order."""
    import helm_python

    with helm_python.Chart.load(str(CHART)) as chart:
        templates = chart.render(values or {}, name=name, namespace=namespace)
    return [
        document
        for path, text in templates.items()
        if path.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document is not None
    ]


def one(manifests, kind):
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


EVERYTHING = {
    "model": {"source": "image", "image": {"reference": "registry.example/models/digits:1"}},
    "settings": {"shadow": 0.05, "max_body_bytes": 67108864, "low_fidelity": "annotate"},
    "replicaCount": 3,
    "image": {"digest": f"sha256:{'0' * 64}"},
    "imagePullSecrets": [{"name": "pull"}],
    "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "web", "annotations": {"a": "b"}},
    "auth": {"existingSecret": "tokens", "anonymousMetrics": False},
    "tls": {"existingSecret": "certificate"},
    "serviceAccount": {"annotations": {"a": "b"}},
    "autoscaling": {"enabled": True, "metric": "queueDepth"},
    "networkPolicy": {
        "enabled": True,
        "from": [{"namespaceSelector": {"matchLabels": {"team": "vision"}}}],
        "egress": [{"ports": [{"port": 443}]}],
    },
    "monitoring": {
        "serviceMonitor": {"enabled": True, "additionalLabels": {"release": "kube-prometheus-stack"}},
        "prometheusRule": {"enabled": True, "runbookBase": "https://docs.example/clearweight/"},
        "dashboards": {"enabled": True},
    },
    "service": {"annotations": {"a": "b"}},
    "podAnnotations": {"a": "b"},
    "podLabels": {"c": "d"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
}
"""Values that switch on all there is."""

SWITCHES = {
    "defaults": {},
    "everything": EVERYTHING,
    "claim with a folder": {"model": {"persistentVolumeClaim": {"claimName": "c", "subPath": "a/b"}}},
    "init container": {
        "model": {
            "source": "initContainer",
            "initContainer": {
                "image": "registry.example/fetch:2",
                "command": ["fetch"],
                "args": ["s3://bucket/models"],
                "env": [{"name": "REGION", "value": "x"}],
            },
        }
    },
    "account of another": {"serviceAccount": {"create": False, "name": "shared"}},
    "CPU scaling": {"autoscaling": {"enabled": True}},
    **{f"only {key}": {key: value} for key, value in EVERYTHING.items()},
}
