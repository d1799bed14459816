"""Problems over gRPC: what a servicer raises is what the caller gets."""

from types import SimpleNamespace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rondo_common import rpc
from rondo_common.problems import Problem, invalid


def generic(handler_unary, handler_stream):
    """A servicer `toy.Toy` without generated code: bytes in, bytes out."""

    module = SimpleNamespace(DESCRIPTOR=SimpleNamespace(services_by_name={}))

    def add(_implementation, server):
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(
                    "toy.Toy",
                    {
                        "One": grpc.unary_unary_rpc_method_handler(handler_unary),
                        "Many": grpc.unary_stream_rpc_method_handler(handler_stream),
                    },
                ),
            )
        )

    return rpc.Servicer(module, add, None)


async def one(request, context):
    if request == b"problem":
        raise Problem(
            422,
            "invalid-rule",
            "Not valid",
            "Unknown operator",
            [invalid("/rule/trait/operator", "unknown_operator", "one of eq")],
            {"Retry-After": "3"},
        )
    if request == b"bug":
        raise RuntimeError("ann@example.com must not leave the server")
    return request.upper()


async def many(request, context):
    yield b"1"
    if request == b"problem":
        raise Problem(404, "not-found", "No such thing")
    yield b"2"


@pytest.fixture
async def address():
    server = rpc.Server([generic(one, many)], ready=lambda: (True, ""))
    port = await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


async def test_a_problem_travels_whole(address):
    async with rpc.channel(address, "toy") as channel:
        call = channel.unary_unary("/toy.Toy/One")
        assert await call(b"hi") == b"HI"
        with pytest.raises(Problem) as e:
            await call(b"problem")
    problem = e.value
    assert (problem.status, problem.type, problem.detail) == (422, "/problems/invalid-rule", "Unknown operator")
    assert problem.errors == [{"pointer": "/rule/trait/operator", "code": "unknown_operator", "detail": "one of eq"}]
    assert problem.headers == {"Retry-After": "3"}


async def test_a_foreign_client_sees_a_fitting_status(address):
    async with grpc.aio.insecure_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as e:
            await channel.unary_unary("/toy.Toy/One")(b"problem")
    assert e.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert e.value.details() == "Unknown operator"


async def test_a_bug_says_nothing_of_itself(address):
    async with rpc.channel(address, "toy") as channel:
        with pytest.raises(Problem) as e:
            await channel.unary_unary("/toy.Toy/One")(b"bug")
    assert e.value.status == 502
    assert "ann" not in str(e.value.body())


async def test_streams(address):
    async with rpc.channel(address, "toy") as channel:
        call = channel.unary_stream("/toy.Toy/Many")
        assert [a async for a in call(b"")] == [b"1", b"2"]
        broken = aiter(call(b"problem"))
        assert await anext(broken) == b"1"
        with pytest.raises(Problem) as e:
            await anext(broken)
    assert e.value.status == 404


async def test_a_server_that_is_down_is_503():
    async with rpc.channel("127.0.0.1:1", "profiles") as channel:
        with pytest.raises(Problem) as e:
            await channel.unary_unary("/toy.Toy/One")(b"hi", timeout=2)
    assert e.value.status == 503
    assert e.value.headers == {"Retry-After": "2"}
    assert "profiles" in e.value.title


async def test_health_and_reflection_are_served(address):
    async with grpc.aio.insecure_channel(address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_blocking_channel(address):
    import asyncio

    def work():
        with rpc.blocking_channel(address, "toy") as channel:
            call = channel.unary_unary("/toy.Toy/One")
            assert call(b"hi") == b"HI"
            with pytest.raises(Problem) as e:
                call(b"problem")
            assert e.value.status == 422

    await asyncio.to_thread(work)
