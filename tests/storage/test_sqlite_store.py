"""Each operation of the embedded store, order inside a batch, duplicates, restarts and refusals."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import apsw
import pytest

from amx_server.core.errors import AmxError
from amx_server.storage import (
    Commit,
    MessageState,
    StoredAgent,
    StoredSchedule,
    StoredSubscription,
    open_store,
)
from tests.storage.support import Session, message, row

GREETER = ("default", "greeter", "default")
_FOREVER_S = 3600.0
_PATIENCE_S = 10.0  # before what would wait for ever fails


async def test_message_inserted_reads_back_every_field() -> None:
    stored = message(
        7,
        "id \x00 é",
        namespace="team",
        agent="a",
        key="",
        handler="",
        priority=-3,
        body=bytes(range(256)),
        attempts=2,
        available_at_ms=5,
        expires_at_ms=6,
        outcome=b"\x00\xff",
    )
    async with open_store(":memory:") as store:
        await Session(store).commit(insert=[stored])
        assert await store.message("team", "id \x00 é") == stored
        assert await store.pending_messages(0, 10) == [stored]
        assert await store.message("other", "id \x00 é") is None


async def test_pending_messages_are_paged_in_order_of_seq() -> None:
    async with open_store(":memory:") as store:
        session = Session(store)
        await session.commit(insert=[message(seq) for seq in (5, 1, 4, 2, 3)])
        await session.commit(finish=[(2, MessageState.SUCCEEDED, b"", 10, 1)])
        assert [m.seq for m in await store.pending_messages(0, 2)] == [1, 3]
        assert [m.seq for m in await store.pending_messages(3, 2)] == [4, 5]
        assert await store.pending_messages(5, 2) == []


@pytest.mark.parametrize("state", [MessageState.SUCCEEDED, MessageState.FAILED, MessageState.CANCELLED])
async def test_finish_drops_the_body_and_keeps_the_outcome(state: MessageState) -> None:
    async with open_store(":memory:") as store:
        session = Session(store)
        await session.commit(insert=(message(1),))
        await session.commit(finish=[(1, state, b"result", 99, 3)])
        found = await store.message("default", "m1")
        assert found == message(1, body=b"", state=state, outcome=b"result", ended_at_ms=99, attempts=3)


async def test_finish_as_dead_letter_keeps_the_body_for_a_later_retry() -> None:
    async with open_store(":memory:") as store:
        session = Session(store)
        await session.commit(insert=(message(1),))
        await session.commit(finish=[(1, MessageState.DEAD, b"why", 99, 3)])
        assert [m.body for m in await store.messages("default", "", MessageState.DEAD, 0, 9)] == [message(1).body]
        await session.commit(retry=[(1, 4, 500, b"again")])
        assert await store.pending_messages(0, 9) == [
            message(1, state=0, attempts=4, available_at_ms=500, outcome=b"again", ended_at_ms=0)
        ]


async def test_drop_forgets_the_message_and_frees_its_id() -> None:
    async with open_store(":memory:") as store:
        session = Session(store)
        await session.commit(insert=[message(1, "same")])
        await session.commit(drop=[1])
        assert await store.message("default", "same") is None
        assert (await session.commit(insert=[message(2, "same")])).duplicates == ()


async def test_duplicate_of_an_earlier_commit_is_reported_and_changes_nothing() -> None:
    async with open_store(":memory:") as store:
        session = Session(store)
        await session.commit(insert=[message(1, "same")])
        commit = await session.commit(
            insert=[message(2, "same", body=b"other"), message(3)], memory_put=[(*GREETER, row("fact"))]
        )
        assert commit.duplicates == ("same",)
        assert [m.seq for m in await store.messages("default", "", None, 0, 9)] == [1, 3]
        assert await store.memory(*GREETER) == [row("fact")]


async def test_duplicates_inside_one_batch_are_reported_to_the_later_commit() -> None:
    async with open_store(":memory:") as store:
        session = Session(store)
        submitted = [session.submit(insert=[message(seq, f"m{seq % 3}")]) for seq in range(1, 10)]
        await asyncio.gather(*(result for _, result in submitted))
        assert [list(commit.duplicates) for commit, _ in submitted] == [
            [],
            [],
            [],
            *([f"m{n % 3}"] for n in range(4, 10)),
        ]


async def test_same_message_id_in_two_namespaces_is_no_duplicate() -> None:
    async with open_store(":memory:") as store:
        commit = await Session(store).commit(insert=[message(1, "x"), message(2, "x", namespace="other")])
        assert commit.duplicates == ()


async def test_message_inserted_and_dropped_in_one_batch_is_no_duplicate() -> None:
    async with open_store(":memory:") as store:
        session = Session(store)
        await session.commit(insert=[message(1, "taken")])
        submitted = [
            session.submit(insert=[message(2)]),
            session.submit(insert=[message(3, "taken"), message(4)], drop=[2, 4]),
            session.submit(insert=[message(5, "m2")]),
        ]
        await asyncio.gather(*(result for _, result in submitted))
        assert [list(commit.duplicates) for commit, _ in submitted] == [[], ["taken"], []]
        assert [m.seq for m in await store.messages("default", "", None, 0, 9)] == [1, 5]


async def test_messages_filters_by_agent_and_state() -> None:
    async with open_store(":memory:") as store:
        session = Session(store)
        await session.commit(insert=[message(seq, agent="ab"[seq % 2]) for seq in range(1, 7)])
        await session.commit(finish=[(1, MessageState.FAILED, b"", 1, 1), (2, MessageState.FAILED, b"", 1, 1)])

        async def seqs(agent: str, state: int | None, after: int = 0, limit: int = 9) -> list[int]:
            return [m.seq for m in await store.messages("default", agent, state, after, limit)]

        assert await seqs("", None) == [1, 2, 3, 4, 5, 6]
        assert await seqs("b", None) == [1, 3, 5]
        assert await seqs("b", MessageState.PENDING) == [3, 5]
        assert await seqs("", MessageState.FAILED) == [1, 2]
        assert await seqs("", MessageState.FAILED, after=1) == [2]
        assert await seqs("", MessageState.PENDING, limit=2) == [3, 4]
        assert await store.count_messages("default", MessageState.PENDING) == 4
        assert await store.count_messages("other", MessageState.PENDING) == 0


async def test_memory_is_ordered_by_use_and_separate_for_each_instance() -> None:
    async with open_store(":memory:") as store:
        rows = [row("map", '"b"', b"\x00\xff", 3), row("map", '"a"', b"", 1), row("value", "", b"5", 2)]
        await Session(store).commit(
            memory_put=[*((*GREETER, r) for r in rows), ("default", "greeter", "other", row("value", used=1))]
        )
        assert await store.memory(*GREETER) == [rows[1], rows[2], rows[0]]
        loaded = await asyncio.gather(
            *(store.memory("default", "greeter", key) for key in ["other", "none", *["default"] * 100])
        )
        assert [len(found) for found in loaded] == [1, 0, *[3] * 100]


async def test_memory_changes_of_one_batch_apply_in_order() -> None:
    async with open_store(":memory:") as store:
        session = Session(store)
        results = [
            session.submit(memory_put=[(*GREETER, row("m", "a", b"1")), (*GREETER, row("m", "b", b"1"))])[1],
            session.submit(memory_clear=[(*GREETER, "m", 2)], memory_put=[(*GREETER, row("m", "c", b"2"))])[1],
            session.submit(memory_remove=[(*GREETER, "m", "c", 2)], memory_put=[(*GREETER, row("m", "a", b"3"))])[1],
            session.submit(memory_put=[(*GREETER, row("m", "a", b"4"))])[1],
        ]
        await asyncio.gather(*results)
        assert await store.memory(*GREETER) == [row("m", "a", b"4")]


async def test_memory_read_sees_what_was_submitted_before_it() -> None:
    async with open_store(":memory:") as store:
        session = Session(store)
        for number in range(50):
            _, result = session.submit(memory_put=[(*GREETER, row("n", value=b"%d" % number))])
            assert [r.value for r in await store.memory(*GREETER)] == [b"%d" % number]
            assert result.done()


async def test_memory_instances_are_listed_in_pages() -> None:
    async with open_store(":memory:") as store:
        places = [("a", "1"), ("a", "2"), ("b", ""), ("b", "1")]
        await Session(store).commit(
            memory_put=[("default", agent, key, row("m", str(n))) for agent, key in places for n in range(3)]
            + [("other", "z", "1", row("m"))]
        )
        assert await store.memory_instances("default", "", ("", ""), 2) == places[:2]
        assert await store.memory_instances("default", "", places[1], 9) == places[2:]
        assert await store.memory_instances("default", "b", ("", ""), 9) == places[2:]
        assert await store.memory_instances("default", "b", ("b", ""), 9) == places[3:]


async def test_schedules_subscriptions_and_agents_are_replaced_and_removed() -> None:
    async with open_store(":memory:") as store:
        session = Session(store)
        hourly = StoredSchedule(*GREETER, "hourly", b"\x00def", 10, 5, True, False)
        daily = StoredSchedule(*GREETER, "daily", b"")
        news = StoredSubscription(*GREETER, "news.*", "hello", "")
        first, second = StoredAgent("default", "greeter", "10", b"d10"), StoredAgent("default", "greeter", "9", b"d9")
        await session.commit(
            schedule_put=[hourly, daily],
            subscription_put=[news, StoredSubscription(*GREETER, "x", "h", "f")],
            agent_put=[first, second],
        )
        assert await store.schedules() == [daily, hourly]
        assert [s.pattern for s in await store.subscriptions()] == ["news.*", "x"]
        assert await store.agents() == [first, second]
        hourly.paused, news.filter, first.pinned = False, "kind = 'a'", True
        await session.commit(
            schedule_put=[hourly],
            schedule_remove=[(*GREETER, "daily")],
            subscription_put=[news],
            subscription_remove=[(*GREETER, "x")],
            agent_put=[first],
        )
        assert await store.schedules() == [hourly]
        assert await store.subscriptions() == [news]
        assert await store.agents() == [first, second]


async def test_stored_bytes_counts_bodies_outcomes_and_memory() -> None:
    async with open_store(":memory:") as store:
        session = Session(store)
        assert await store.stored_bytes() == {}
        await session.commit(
            insert=[message(1, body=b"12345"), message(2, body=b"123", namespace="other")],
            memory_put=[(*GREETER, row("m", value=b"1234567"))],
        )
        assert await store.stored_bytes() == {"default": 12, "other": 3}
        await session.commit(finish=[(1, MessageState.SUCCEEDED, b"ok", 9, 1)])
        assert await store.stored_bytes() == {"default": 9, "other": 3}


async def test_purge_forgets_ended_messages_only() -> None:
    async with open_store(":memory:") as store:
        session = Session(store)
        await session.commit(insert=[message(seq) for seq in range(1, 1206)])
        await session.commit(
            finish=[(seq, MessageState.SUCCEEDED, b"", 100, 1) for seq in range(1, 1201)]
            + [(1201, MessageState.DEAD, b"", 100, 1), (1202, MessageState.CANCELLED, b"", 200, 1)]
        )
        assert await store.purge_ended(100, 10_000) == 0
        assert await store.purge_ended(101, 600) == 600
        assert await store.purge_ended(101, 10_000) == 600
        assert [m.seq for m in await store.messages("default", "", None, 0, 9)] == [1201, 1202, 1203, 1204, 1205]


async def test_commit_larger_than_a_statement_is_stored_whole() -> None:
    async with open_store(":memory:") as store:
        session = Session(store)
        await session.commit(insert=[message(1000, "m5")])
        commit = await session.commit(insert=[message(seq) for seq in range(1, 1000)])
        assert commit.duplicates == ("m5",)
        assert await store.count_messages("default", MessageState.PENDING) == 999
        with pytest.raises(AmxError) as error:  # the last of many is bad: none of them is stored
            await session.commit(insert=[message(seq) for seq in range(2000, 3000)] + [message(1, "other")])
        assert error.value.reason == "STORAGE_REJECTED"
        assert await store.count_messages("default", MessageState.PENDING) == 999
        await session.commit(insert=[message(3000)])


async def test_bad_commit_fails_alone_and_reports_keep_their_order() -> None:
    async with open_store(":memory:") as store:
        session = Session(store)
        await session.commit(insert=(message(1),))
        submitted = [session.submit(insert=[message(seq)]) for seq in range(2, 40)]
        bad = [
            session.submit(insert=[message(40), message(1, "number taken")]),
            session.submit(insert=[message(41, "lone \ud800 surrogate")]),
            session.submit(memory_put=[(*GREETER, row("m", used=1 << 63))]),
        ]
        submitted += [session.submit(insert=[message(seq)]) for seq in range(42, 80)]
        for _, result in bad:
            with pytest.raises(AmxError) as error:
                await result
            assert error.value.reason == "STORAGE_REJECTED"
        await asyncio.gather(*(result for _, result in submitted))
        assert session.reported == sorted(session.reported)
        assert await store.count_messages("default", MessageState.PENDING) == 77
        assert await store.message("default", "m40") is None


async def test_failing_done_callback_costs_the_others_nothing() -> None:
    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context["exception"]))
    async with open_store(":memory:") as store:
        failure = RuntimeError("broken caller")

        def broken(error: BaseException | None) -> None:
            raise failure

        store.submit(Commit(broken, insert=(message(1),)))
        await Session(store).commit(insert=[message(2)])
        assert reports == [failure]
        assert await store.count_messages("default", MessageState.PENDING) == 2


async def test_full_queue_refuses_in_order_and_recovers() -> None:
    async with open_store(":memory:", max_queued_bytes=10_000) as store:
        session = Session(store)
        results = [session.submit(insert=[message(seq, body=b"x" * 4000)])[1] for seq in range(1, 11)]
        outcomes = await asyncio.gather(*results, return_exceptions=True)
        assert outcomes[:3] == [None] * 3
        assert {getattr(outcome, "reason", None) for outcome in outcomes[3:]} == {"STORAGE_BUSY"}
        assert session.reported == list(range(10))
        await session.commit(insert=[message(99, body=b"x" * 20_000)])
        assert await store.count_messages("default", MessageState.PENDING) == 4


async def test_flush_returns_after_everything_submitted() -> None:
    async with open_store(":memory:") as store:
        session = Session(store)
        await store.flush()
        results = [session.submit(insert=[message(seq)])[1] for seq in range(1, 500)]
        results.append(session.submit()[1])
        await store.flush()
        assert all(result.done() for result in results)


async def test_delayed_commits_of_different_turns_share_a_transaction() -> None:
    transactions: list[int] = []
    async with open_store(
        ":memory:", commit_delay=_FOREVER_S, observe=lambda stored, failed, seconds: transactions.append(stored)
    ) as store:
        session = Session(store)
        results = []
        for seq in range(1, 11):
            results.append(session.submit(insert=[message(seq)])[1])
            await asyncio.sleep(0)
        await store.flush()
        await asyncio.gather(*results)
        assert transactions == [10]
        assert session.reported == list(range(10))


async def test_delayed_commit_is_stored_when_its_time_is_over() -> None:
    async with open_store(":memory:", commit_delay=0.001) as store:
        session = Session(store)
        await session.commit(insert=[message(1)])
        await session.commit(insert=[message(2)])
        assert session.reported == [0, 1]


async def test_delayed_commits_that_fill_a_transaction_wait_no_longer() -> None:
    async with open_store(":memory:", commit_delay=_FOREVER_S) as store:
        session = Session(store)
        first, *_ = [session.submit(insert=[message(seq)])[1] for seq in range(1, 1001)]
        await asyncio.wait_for(first, _PATIENCE_S)


async def test_delayed_commits_are_not_waited_for_by_reads_and_jobs() -> None:
    async with open_store(":memory:", commit_delay=_FOREVER_S) as store:
        session = Session(store)
        session.submit(insert=[message(1)], memory_put=[(*GREETER, row("name"))])
        assert await store.memory(*GREETER) == [row("name")]
        session.submit(insert=[message(2)])
        assert await store.count_messages("default", MessageState.PENDING) == 2
        session.submit(insert=[message(3, ended_at_ms=1, state=MessageState.SUCCEEDED)])
        assert await store.purge_ended(2, 10) == 1


async def test_delayed_commits_go_with_a_prompt_one_behind_them() -> None:
    async with open_store(":memory:", commit_delay=_FOREVER_S) as store:
        session = Session(store)
        waiting = session.submit(insert=[message(1)])[1]
        await asyncio.wait_for(session.commit(insert=[message(2)], prompt=True), _PATIENCE_S)
        assert waiting.done()
        assert session.reported == [0, 1]


async def test_delayed_commits_that_fill_the_queue_wait_no_longer_and_are_not_refused() -> None:
    async with open_store(":memory:", max_queued_bytes=10_000, commit_delay=_FOREVER_S) as store:
        session = Session(store)
        for seq in range(1, 20, 2):
            results = [session.submit(insert=[message(number, body=b"x" * 2000)])[1] for number in (seq, seq + 1)]
            await asyncio.wait_for(asyncio.gather(*results), _PATIENCE_S)
        assert await store.count_messages("default", MessageState.PENDING) == 20


async def test_delayed_commits_are_refused_in_order_when_the_queue_is_full() -> None:
    async with open_store(":memory:", max_queued_bytes=10_000, commit_delay=_FOREVER_S) as store:
        session = Session(store)
        results = [session.submit(insert=[message(seq, body=b"x" * 4000)])[1] for seq in range(1, 6)]
        await store.flush()
        outcomes = await asyncio.gather(*results, return_exceptions=True)
        assert outcomes[:3] == [None] * 3
        assert {getattr(outcome, "reason", None) for outcome in outcomes[3:]} == {"STORAGE_BUSY"}
        assert session.reported == list(range(5))


@pytest.mark.parametrize("delay", [0.0, _FOREVER_S])
async def test_leaving_writes_what_was_submitted(tmp_path: Path, delay: float) -> None:
    path = str(tmp_path / "folder" / "amx.db")
    async with open_store(path, commit_delay=delay) as store:
        session = Session(store)
        results = [session.submit(insert=[message(seq)])[1] for seq in range(1, 500)]
    await asyncio.gather(*results)
    late, result = session.submit(insert=[message(500)])
    with pytest.raises(AmxError, match="closed"):
        await result
    assert late.duplicates == ()
    assert sorted(os.listdir(tmp_path / "folder")) == ["amx.db", "amx.db.lock"]
    async with open_store("sqlite:" + path) as store:
        assert await store.count_messages("default", MessageState.PENDING) == 499


async def test_submit_while_leaving_is_refused_after_what_came_before() -> None:
    store = open_store(":memory:")
    await store.__aenter__()
    session = Session(store)
    for seq in range(1, 500):
        session.submit(insert=[message(seq)])
    leaving = asyncio.ensure_future(store.__aexit__())
    await asyncio.sleep(0)  # both begin
    await asyncio.sleep(0)
    _, late = session.submit(insert=[message(500)])
    await leaving
    with pytest.raises(AmxError, match="closed"):
        await late
    assert session.reported == list(range(500))
    with pytest.raises(AmxError, match="closed"):
        await store.memory(*GREETER)


async def test_restart_begins_a_new_generation_and_never_reuses_a_number(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    async with open_store(path) as store:
        assert (store.generation, store.next_seq) == (1, 1)
        assert path in store.location
        session = Session(store)
        await session.commit(insert=[message(seq) for seq in range(1, 10)])
        await session.commit(drop=[9, 8])
        await session.commit(finish=[(7, MessageState.SUCCEEDED, b"", 5, 1)])
        assert await store.purge_ended(6, 10) == 1
    async with open_store(path) as store:
        assert (store.generation, store.next_seq) == (2, 10)
        await Session(store).commit(insert=[message(20)])
    async with open_store(path) as store:
        assert (store.generation, store.next_seq) == (3, 21)


async def test_second_engine_on_the_same_store_is_refused_by_name(tmp_path: Path) -> None:
    path = str(tmp_path / "amx.db")
    async with open_store(path):
        link = tmp_path / "link.db"
        link.symlink_to(path)
        for same in (path, str(link)):
            with pytest.raises(AmxError) as error:
                async with open_store(same):
                    pass
            assert error.value.reason == "STORAGE_UNAVAILABLE"
            assert path in error.value.message and str(os.getpid()) in error.value.message
    async with open_store(path) as store:
        assert store.generation == 2


async def test_store_files_are_for_their_owner_only(tmp_path: Path) -> None:
    async with open_store(str(tmp_path / "amx.db")) as store:
        await Session(store).commit(insert=(message(1),))
        modes = {name: (tmp_path / name).stat().st_mode & 0o077 for name in os.listdir(tmp_path)}
    assert {"amx.db", "amx.db-wal"} <= set(modes)
    assert set(modes.values()) == {0}


async def test_backup_while_running_restores_everything(tmp_path: Path) -> None:
    copy = tmp_path / "backup.db"
    async with open_store(str(tmp_path / "amx.db")) as store:
        await Session(store).commit(insert=(message(1),))
        connection = apsw.Connection(str(tmp_path / "amx.db"))
        connection.execute("VACUUM INTO ?", (str(copy),))
        connection.close()
    async with open_store(str(copy)) as restored:
        assert await restored.message("default", "m1") == message(1)


@pytest.mark.parametrize("location", ["postgresql://host/db", "sqlite:", "", "folder/"])
def test_open_store_unknown_location_is_refused(location: str) -> None:
    with pytest.raises(AmxError) as error:
        open_store(location)
    assert error.value.reason == "STORAGE_UNSUPPORTED"


async def test_opening_a_path_that_is_no_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder").mkdir()
    for path in ("file/amx.db", "folder"):
        with pytest.raises(AmxError) as error:
            async with open_store(str(tmp_path / path)):
                pass
        assert error.value.reason == "STORAGE_UNAVAILABLE"
