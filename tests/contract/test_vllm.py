"""What the service stands on in vLLM, checked against the vLLM that is installed.

When one of these fails after an upgrade, `service/engine/vllm_engine.py` is where to look.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from adapters.errors import InvalidRequest
from service.engine.abilities import Abilities
from service.engine.short_waits import ShortWaits
from service.gateway.access import ACCESS, methods_at
from service.gateway.body_allowlist import ENDPOINTS, Endpoint, clean
from service.gateway.messages import rebuild_messages
from service.launch.connection_bounds import BoundedHttp

ABLE = Abilities(context=1024, tools=True)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_wardrobe_is_a_plugin_that_vllm_finds_and_loads(facts: dict[str, Any]) -> None:
    assert facts["is_plugin"]
    assert facts["loaded_plugins"] == ["wardrobe"]


def test_the_engines_verbs_take_what_we_give(facts: dict[str, Any]) -> None:
    assert "lora_request" in facts["add_lora"]
    assert "lora_id" in facts["remove_lora"]
    for name in ("prompt", "sampling_params", "request_id", "lora_request"):
        assert name in facts["generate"]
    assert {"lora_name", "lora_int_id", "lora_path"} <= set(facts["lora_request"])
    assert facts["dead_error"]


def test_the_core_is_asked_whether_it_lives_because_health_looks_at_a_flag(
    facts: dict[str, Any],
) -> None:
    assert facts["list_loras"] == facts["is_sleeping"] == ["self"]
    assert "rpc" not in facts["sleeping_asks"], "a worker that is asked spins for a second"
    assert facts["pinged"] == ["core", "workers"]
    assert "await" not in facts["health"]


def test_the_server_takes_connections_from_the_supervisors_socket(facts: dict[str, Any]) -> None:
    assert facts["listens_on"]


def test_the_client_raises_a_bare_exception_for_whatever_fails_in_the_core(
    facts: dict[str, Any],
) -> None:
    assert facts["failure_type"] == "Exception"


@pytest.mark.parametrize(
    ("what", "becomes"),
    [
        ("fine", "loaded"),
        ("refused", "Rejected"),
        ("refused_while_dying", "EngineUnavailable"),
        ("silent", "EngineUnavailable"),
        ("probe_failed", "Rejected"),
        ("died", "EngineUnavailable"),
        ("without_effect", "Rejected"),
        ("rounded_off", "loaded"),
        ("not_a_number", "Rejected"),
    ],
)
def test_whatever_a_load_meets_is_one_of_our_errors_and_leaves_nothing_behind(
    facts: dict[str, Any], what: str, becomes: str
) -> None:
    assert facts["outcomes"][what] == [becomes, True]


def test_a_dead_engine_can_be_seen(facts: dict[str, Any]) -> None:
    assert "engine_dead" in facts["errored"]
    assert "is_running" in facts["errored"]


def test_the_web_servers_patience_is_read_when_it_shuts_down(facts: dict[str, Any]) -> None:
    assert "app.state.server = server" in facts["serve_http"]
    assert "return server.shutdown()" in facts["serve_http"]
    assert facts["patient_server"]
    assert "self.config.timeout_graceful_shutdown" in facts["server_shutdown"]


def test_an_idle_connection_is_kept_longer_than_clients_and_load_balancers_keep_theirs(
    facts: dict[str, Any],
) -> None:
    assert "timeout_keep_alive=envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE" in facts["serves_by"]
    assert facts["environment"]["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"] == "75"


def test_the_protocol_is_looked_up_for_each_connection(facts: dict[str, Any]) -> None:
    assert "return config.http_protocol_class(" in facts["server_startup"]
    assert issubclass(BoundedHttp, HttpToolsProtocol)
    assert facts["http"] == "auto"  # which is httptools where that is installed


def test_handlers_look_adapters_up_in_lora_requests(facts: dict[str, Any]) -> None:
    assert "self.lora_requests" in facts["models_init"]


def test_the_engine_leaves_exact_token_counts_on_the_request(facts: dict[str, Any]) -> None:
    assert "final_usage_info" in facts["usage_field"]


def test_our_command_line_means_what_we_think(facts: dict[str, Any]) -> None:
    args = facts["args"]
    assert args["enable_lora"] is True
    assert args["max_model_len"] == 256
    assert args["max_cpu_loras"] > args["max_loras"]
    assert args["served_model_name"] == ["wardrobe-base"]
    assert args["disable_fastapi_docs"] is True
    assert args["generation_config"] == "vllm"
    assert args["default_chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}
    assert args["trust_remote_code"] is False
    assert args["tool_call_parser"] == "hermes"
    assert args["enable_auto_tool_choice"] is True
    assert not args["reasoning_parser"]
    assert args["enforce_eager"] is True


def test_one_compiler_makes_all_grammars_whatever_is_asked_first(facts: dict[str, Any]) -> None:
    assert set(facts["compilers"]) == set(facts["compilers_reversed"]) == {"guidance"}


def test_a_forced_call_is_compiled_of_the_schema_that_is_tried_beside_the_engine(
    facts: dict[str, Any],
) -> None:
    assert len(facts["forced_calls"]) == 12
    for one in facts["forced_calls"]:
        assert one["theirs"] == one["ours"]
        assert one["tag"] is None
    for name in ("VLLM_ENFORCE_STRICT_TOOL_CALLING", "VLLM_ENABLE_RESPONSES_API_STORE"):
        assert facts["environment"][name] == "0"


def test_no_callers_schema_reaches_the_compiler_that_is_not_pinned(facts: dict[str, Any]) -> None:
    assert facts["asks_xgrammar"] is False


def refusal(endpoint: Endpoint, field: str) -> str | None:
    """Why a strange value of a field is refused, if it is."""
    question = [{"role": "user", "content": "x"}] if endpoint.question == "messages" else "x"
    body = {"model": "m", endpoint.question: question}
    try:
        clean(endpoint, {**body, field: body.get(field, "no such value")}, abilities=ABLE)
    except InvalidRequest as refused:
        return refused.reason
    return None


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=lambda endpoint: endpoint.path)
def test_every_field_of_the_engines_is_allowed_or_refused_as_one_of_its_own(
    facts: dict[str, Any], endpoint: Endpoint
) -> None:
    for field in facts["body_fields"][endpoint.path]:
        assert refusal(endpoint, field) != "unknown_parameter", field
    assert endpoint.allowed <= {*facts["body_fields"][endpoint.path]}


def test_our_compiler_is_given_what_the_engines_is(facts: dict[str, Any]) -> None:
    assert facts["same_grammar"]
    assert facts["same_tokenizer"]


def test_no_key_that_the_engine_takes_for_media_gets_through(facts: dict[str, Any]) -> None:
    assert {"image_url", "input_audio", "video_url"} <= set(facts["media_keys"])
    for key in facts["media_keys"]:
        part = {"type": "text", "text": "hi", key: "x"}
        with pytest.raises(InvalidRequest):
            rebuild_messages([{"role": "user", "content": [part]}])
    assert facts["args"]["language_model_only"] is True
    assert facts["images"] == 0


def test_the_engines_processes_load_what_keeps_content_out_of_logs(facts: dict[str, Any]) -> None:
    assert facts["logs_are_sealed"]


def test_who_asks_for_the_base_gets_nothing_of_the_adapters_in_the_same_batch(
    facts: dict[str, Any],
) -> None:
    not_a_number = -1.0
    assert facts["of_a_batch"] == [[not_a_number] * 2, [5.0] * 2, [7.0] * 2]


def test_the_engines_processes_wait_for_one_another_in_our_way(
    facts: dict[str, Any],
) -> None:
    assert facts["waits_by"] == ["sched_yield", ShortWaits.__name__]


def test_our_lora_operations_give_the_numbers_of_the_engines_own(facts: dict[str, Any]) -> None:
    assert facts["lora_operations"].keys() == {"bgmv_shrink", "bgmv_expand", "bgmv_expand_slice"}
    for operation in facts["lora_operations"].values():
        assert operation["alike"]
        assert operation["apart"] < 1e-5


def test_prompts_of_several_adapters_are_scored_at_once(facts: dict[str, Any]) -> None:
    """Unpatched, vLLM's CPU operation fails there and ends the engine."""
    assert facts["logits_of_prompts"] == [5.0]


def test_several_api_processes_are_started_and_each_is_told_its_number(
    facts: dict[str, Any],
) -> None:
    assert facts["serve"] == ["args"]
    assert facts["process_number"] is True
    assert facts["process_count"] is True


def test_what_a_request_has_used_is_known_while_it_is_under_way(facts: dict[str, Any]) -> None:
    assert facts["spent"] == [
        {"prompt": 3, "completion": 2},
        {"prompt": 7, "completion": 1},
        None,
    ]


def test_requests_may_go_behind_others(facts: dict[str, Any]) -> None:
    assert facts["args"]["scheduling_policy"] == "priority"


def test_the_gateway_stands_outside_everything_else(facts: dict[str, Any]) -> None:
    assert facts["middleware"][0] == "Gateway"


OURS = "service.api"


def tried(path: str) -> str:
    """A path that a template matches."""
    return re.sub(r"\{[^}]+\}", "x", path)


def test_of_all_the_engines_routes_only_those_of_the_table_can_be_reached(
    facts: dict[str, Any],
) -> None:
    """Whatever a new version of the engine brings, it opens no door."""
    engines = [door for door in facts["doors"] if not door["module"].startswith(OURS)]
    opened = {
        (method, door["path"])
        for door in engines
        for method in door["methods"]
        if door["path"] is not None and method in methods_at(tried(door["path"]))
    }
    assert opened == {(row.method, row.template) for row in ACCESS if row.engines}
    assert len(engines) > 20


def test_no_websocket_or_mounted_app_of_the_engine_can_be_reached(facts: dict[str, Any]) -> None:
    others = [door for door in facts["doors"] if not door["methods"]]
    assert {door["kind"] for door in others} <= {"Mount", "APIWebSocketRoute", "WebSocketRoute"}
    for door in others:
        assert not methods_at(f"{door['path']}/x")
        if door["path"] != "/metrics":
            assert not methods_at(door["path"])


def test_what_a_row_of_the_table_was_decided_for_is_what_answers(facts: dict[str, Any]) -> None:
    rows = {(row.method, row.template): row for row in ACCESS}
    assert len(facts["answers"]) == len(rows)
    for answer in facts["answers"]:
        row = rows[answer["method"], answer["template"]]
        assert answer["path"] == row.template, answer
        assert answer["module"].startswith(OURS) != row.engines, answer


def test_every_route_of_ours_in_the_engines_app_stands_in_the_table(facts: dict[str, Any]) -> None:
    ours = {
        (method, door["path"])
        for door in facts["doors"]
        if door["module"].startswith(OURS)
        for method in door["methods"]
    }
    assert ours == {(row.method, row.template) for row in ACCESS if not row.engines}
