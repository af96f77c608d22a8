"""The path of the data as a graph, for a drawing: brokers and ports to sources, to pipelines, to brokers."""

from __future__ import annotations

from typing import Any

from edged.plan.records import Plan
from edged.sources.kinds import kind_of


def graph(plan: Plan) -> dict[str, Any]:
    """`sources` says where each gets its samples; `pipelines` which streams each reads, its model, the brokers that get its
    results, and the threshold of its score, where it has one."""
    return {
        "sources": {
            name: {"from": f"broker {p.broker}" if p.broker else kind_of(p.settings).describe(p), "broker": p.broker}
            for name, p in plan.sources.items()
        },
        "pipelines": {
            name: {
                "sources": list(p.sources),
                "model": p.model,
                "brokers": list(dict.fromkeys(one.broker for one in p.publishes)),
                "threshold": getattr(p.output, "above", None),
            }
            for name, p in plan.pipelines.items()
        },
    }
