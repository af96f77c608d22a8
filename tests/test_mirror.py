"""The tests mirror edged/: each module has a file of tests at the same place, or is named here with the place of its tests."""

from __future__ import annotations

from pathlib import Path

import edged

ROOT = Path(__file__).parents[1]
EDGED = Path(edged.__file__).parent
"""Of the source, or installed."""
ELSEWHERE = {
    "commands/arguments/fleet.py": "tests/live/test_fleet.py",
    "commands/arguments/machine.py": "tests/test_cli.py",
    "commands/arguments/models.py": "tests/commands/test_bench.py",
    "commands/arguments/parser.py": "tests/test_cli.py",
    "commands/arguments/reference.py": "tests/commands/test_completions.py",
    "commands/arguments/running.py": "tests/live/test_status.py",
    "commands/arguments/start.py": "tests/commands/test_check.py",
    "commands/collect.py": "tests/live/test_hard_samples.py",
    "commands/fleet.py": "tests/live/test_fleet.py",
    "config/checks/fleet.py": "tests/plan/test_fleet.py",
    "daemon/guards.py": "tests/live/test_fleet.py",
    "daemon/hard_samples.py": "tests/live/test_hard_samples.py",
    "fleet/due.py": "tests/live/test_fleet.py",
    "behaviours/face.py": "tests/behaviours/test_actor.py",
    "behaviours/inbox.py": "tests/behaviours/test_actor.py",
    "behaviours/me.py": "tests/behaviours/test_actor.py",
    "behaviours/plan.py": "tests/plan/test_behaviours.py",
    "behaviours/steps.py": "tests/behaviours/test_actor.py",
    "config/asked.py": "tests/plan/test_behaviours.py",
    "config/checks/behaviour.py": "tests/plan/test_behaviours.py",
    "daemon/acting.py": "tests/manual/test_behaviours.py",
    "sources/ask.py": "tests/plan/test_behaviours.py",
    "testing/accept.py": "tests/commands/test_test.py",
    "testing/cases.py": "tests/commands/test_test.py",
    "testing/judge.py": "tests/commands/test_test.py",
    "testing/play.py": "tests/commands/test_test.py",
    "pipeline/into.py": "tests/pipeline/test_pipeline.py",
    "pipeline/view.py": "tests/pipeline/test_pipeline.py",
    "pipeline/align/plan.py": "tests/pipeline/align/test_aligner.py",
    "decode/crc.py": "tests/decode/test_checksums.py",
    "decode/plan.py": "tests/decode/test_planner.py",
    "daemon/assembly.py": "tests/test_chain.py",
    "config/checks/broker.py": "tests/config/test_checks.py",
    "config/checks/decode.py": "tests/config/test_checks.py",
    "config/checks/modbus.py": "tests/test_error_cases.py",
    "config/checks/model.py": "tests/config/test_checks.py",
    "config/checks/pipeline.py": "tests/config/test_checks.py",
    "config/checks/result.py": "tests/config/test_checks.py",
    "config/checks/source.py": "tests/config/test_checks.py",
    "config/parsers/value.py": "tests/config/test_external.py",
    "notation/widths.py": "tests/config/parsers/test_choices.py",
    "notation/units.py": "tests/config/parsers/test_measures.py",
    "config/schema/behaviour.py": "tests/config/test_schema.py",
    "config/schema/broker.py": "tests/config/test_schema.py",
    "config/schema/config.py": "tests/config/test_schema.py",
    "config/schema/decode.py": "tests/config/test_schema.py",
    "config/schema/device.py": "tests/config/test_schema.py",
    "config/schema/frame.py": "tests/config/test_schema.py",
    "config/schema/inputs.py": "tests/config/test_schema.py",
    "config/schema/keys.py": "tests/config/test_schema.py",
    "config/schema/model.py": "tests/config/test_schema.py",
    "config/schema/pipeline.py": "tests/config/test_schema.py",
    "config/schema/result.py": "tests/config/test_schema.py",
    "config/schema/source.py": "tests/config/test_schema.py",
    "daemon/build_pipeline.py": "tests/test_chain.py",
    "model/load_all.py": "tests/test_error_cases.py",
    "pipeline/admission.py": "tests/pipeline/test_pipeline.py",
    "pipeline/chain.py": "tests/pipeline/test_pipeline.py",
    "pipeline/counts.py": "tests/pipeline/test_pipeline.py",
    "pipeline/deadline.py": "tests/pipeline/test_pipeline.py",
    "pipeline/due.py": "tests/pipeline/test_pipeline.py",
    "pipeline/entry.py": "tests/pipeline/test_pipeline.py",
    "pipeline/exit.py": "tests/pipeline/test_pipeline.py",
    "pipeline/gated.py": "tests/daemon/test_gating.py",
    "pipeline/make.py": "tests/pipeline/test_pipeline.py",
    "pipeline/outlets.py": "tests/pipeline/test_pipeline.py",
    "pipeline/requests.py": "tests/pipeline/test_pipeline.py",
    "pipeline/timer.py": "tests/pipeline/test_pipeline.py",
    "pipeline/wiring.py": "tests/test_chain.py",
    "__main__.py": "tests/test_package.py",
    "demo/child.py": "tests/demo/test_main.py",
    "commands/doctor/facts.py": "tests/commands/doctor/test_findings.py",
    "commands/doctor/probe.py": "tests/commands/doctor/test_gather.py",
    "errors.py": "tests/config/test_load.py",
    "model/rows.py": "tests/model/test_load.py",
    "model/remote/protocols.py": "tests/model/remote/test_kserve.py",
    "model/remote/peer.py": "tests/model/remote/test_runner.py",
    "model/remote/records.py": "tests/plan/test_remotes.py",
    "model/remote/row.py": "tests/model/remote/test_runner.py",
    "model/remote/spill.py": "tests/live/test_remote.py",
    "model/trial/child.py": "tests/model/trial/test_attempt.py",
    "model/batch.py": "tests/model/test_load.py",
    "model/golden_run.py": "tests/model/test_load.py",
    "model/opened.py": "tests/model/test_load.py",
    "model/records.py": "tests/model/test_load.py",
    "plan/records.py": "tests/plan/test_make.py",
    "learn/features.py": "tests/learn/test_normal.py",
    "learn/graph.py": "tests/learn/test_normal.py",
    "learn/rounds.py": "tests/learn/test_normal.py",
    "daemon/one_source.py": "tests/commands/test_evaluate.py",
    "commands/init/find.py": "tests/live/test_init.py",
    "commands/init/command.py": "tests/live/test_init.py",
    "daemon/alarms.py": "tests/live/test_upkeep.py",
    "daemon/upkeep.py": "tests/live/test_upkeep.py",
    "plan/acks.py": "tests/live/test_upkeep.py",
    "plan/rejects.py": "tests/live/test_tap.py",
    "daemon/desk.py": "tests/live/test_tap.py",
    "commands/listen.py": "tests/live/test_tap.py",
    "commands/ask.py": "tests/live/test_reload.py",
    "commands/status.py": "tests/live/test_status.py",
    "commands/top.py": "tests/live/test_top.py",
    "health/details.py": "tests/live/test_status.py",
    "health/graph.py": "tests/live/test_http.py",
    "health/http/metrics.py": "tests/live/test_http.py",
    "health/http/pages.py": "tests/live/test_http.py",
    "health/http/server.py": "tests/live/test_http.py",
    "config/checks/http.py": "tests/config/test_checks.py",
    "health/good.py": "tests/health/test_status.py",
    "commands/run.py": "tests/test_error_cases.py",
    "results/fields.py": "tests/results/heads/test_head.py",
    "results/heads/rows.py": "tests/results/heads/test_classify.py",
    "sources/asked.py": "tests/sources/test_asking.py",
    "sources/opening.py": "tests/sources/test_serial.py",
    "sources/reading.py": "tests/sources/test_serial.py",
    "sources/router.py": "tests/sources/test_mqtt.py",
    "sources/kind.py": "tests/live/test_kinds.py",
    "sources/kinds.py": "tests/live/test_kinds.py",
    "spool/settings.py": "tests/plan/test_spool.py",
    "health/configured.py": "tests/health/test_schedule.py",
    "health/loop_times.py": "tests/health/test_schedule.py",
    "health/news.py": "tests/health/test_schedule.py",
    "health/running.py": "tests/health/test_schedule.py",
    "health/snapshot.py": "tests/health/test_schedule.py",
    "health/topics.py": "tests/health/test_schedule.py",
    "mqtt/connection.py": "tests/mqtt/test_faults.py",
    "mqtt/receiver.py": "tests/mqtt/test_link.py",
    "mqtt/suspicion.py": "tests/mqtt/test_sender.py",
    "mqtt/settings.py": "tests/plan/test_links.py",
}


def test_each_module_has_its_tests() -> None:
    missing = []
    for module in sorted(EDGED.rglob("*.py")):
        place = module.relative_to(EDGED)
        if module.name == "__init__.py" or place.as_posix() in ELSEWHERE:
            continue
        tests = ROOT / "tests" / place.parent / f"test_{module.stem.strip('_')}.py"
        if not tests.exists():
            missing.append(f"{place}: expected {tests.relative_to(ROOT)}, or an entry in ELSEWHERE")
    assert not missing, "\n".join(missing)


def test_the_list_is_true() -> None:
    for module, tests in ELSEWHERE.items():
        assert (EDGED / module).exists(), f"{module} is gone: take it out of ELSEWHERE"
        assert (ROOT / tests).exists(), f"{module}: {tests} is not there"
        own = ROOT / "tests" / Path(module).parent / f"test_{Path(module).name}"
        assert not own.exists(), f"{module} has tests of its own: take it out of ELSEWHERE"
