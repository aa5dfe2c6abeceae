"""Sessions that travel, in the page: named, exported, deleted, and taken in again."""

from __future__ import annotations

import pytest
from otf_session import display_name
from otf_session.bundles.staging import TRANSFER
from otf_session.liveness import AliveLock
from otf_session.queries import kept_checkpoints
from otf_session.store import SessionReader
from playwright.sync_api import expect

from ..helpers.bundles import contents, lineage, tiny
from ..helpers.sessions import RUN
from .conftest import wait_until

pytestmark = pytest.mark.browser

DRAG = """
    ([kind, bytes]) => {
        const held = new DataTransfer();
        held.items.add(new File([new Uint8Array(bytes)], "dropped.otf.zip"));
        const options = { dataTransfer: held, bubbles: true, cancelable: true };
        document.querySelector(".app").dispatchEvent(new DragEvent(kind, options));
    }
"""


@pytest.fixture
def session(home):
    return lineage(home)


@pytest.fixture
def shown(page, processes, port, link, session):
    """The page, with the session in its list."""
    processes.serve(port)
    page.goto(link())
    item(page, session.id).wait_for()
    return page


def item(page, session_id):
    return page.locator(f'[data-testid="session-item"][data-session="{session_id}"]')


def ids(page):
    found = page.get_by_test_id("session-item")
    return found.evaluate_all("all => all.map((each) => each.dataset.session)")


def choose(page, entry, session_id):
    row = page.get_by_role("listitem").filter(has=item(page, session_id))
    row.get_by_test_id("session-menu").click()
    page.get_by_test_id(f"session-{entry}").click()


def export(page, session_id, folder, *options):
    """Export in the page, and keep what the browser saves."""
    choose(page, "export", session_id)
    for option in options:
        page.get_by_test_id(option).check()
    page.get_by_test_id("export-dialog-confirm").click()
    going = page.get_by_test_id("job-going")
    with page.expect_download() as saved:
        going.get_by_test_id("job-download").click()
    page.get_by_test_id("job-close").click()
    target = folder / saved.value.suggested_filename
    saved.value.save_as(target)
    return target


def delete(page, session_id):
    choose(page, "delete", session_id)
    page.get_by_test_id("delete-confirm").click()
    item(page, session_id).wait_for(state="detached")


def test_a_session_is_exported_deleted_and_imported_again(shown, session, home, tmp_path):
    before = contents(session.folder)
    bundle = export(shown, session.id, tmp_path)
    assert bundle.name == f"a-project-of-mine-{session.id}.otf.zip"

    choose(shown, "delete", session.id)
    expect(shown.get_by_test_id("delete-size")).to_contain_text("3 runs, 6 checkpoints")
    shown.get_by_test_id("delete-confirm").click()
    wait_until(lambda: not session.folder.exists(), "the deletion")
    wait_until(lambda: ids(shown) == [], "that the page shows it")
    shown.locator('[data-kind="delete"] [data-testid="job-result"]').wait_for()

    shown.get_by_test_id("import-file").set_input_files(str(bundle))
    shown.locator('[data-kind="import"]').get_by_test_id("job-show").click()
    item(shown, session.id).wait_for()
    # The paths of checkpoints and all of their bytes; the record is a copy, row by row.
    assert contents(session.folder).keys() == before.keys()


def test_a_renamed_session_is_seen_in_every_page(shown, session, link):
    other = shown.context.new_page()
    other.goto(link())
    item(other, session.id).wait_for()
    choose(shown, "rename", session.id)
    expect(shown.get_by_test_id("rename-input")).to_be_focused()
    shown.keyboard.type("best so far")
    shown.keyboard.press("Enter")
    for page in (shown, other):
        name = item(page, session.id).get_by_test_id("session-name")
        wait_until(lambda name=name: name.inner_text() == "best so far", "the name")
    assert display_name.read(session.folder) == "best so far"
    wait_until(lambda: "best so far" in other.title(), "the title")


def test_a_part_of_a_session_travels(shown, session, home, tmp_path):
    bundle = export(shown, session.id, tmp_path, "export-pinned")
    delete(shown, session.id)
    shown.get_by_test_id("import-file").set_input_files(str(bundle))
    item(shown, session.id).wait_for()
    with SessionReader(session.folder) as reader:
        kept = {saved.id for saved in kept_checkpoints(reader.database)}
    assert f"{RUN}@20-best" in kept
    assert f"{RUN}@20-periodic" not in kept


def test_a_bundle_is_dropped_on_the_page_and_beside_itself(shown, session, home, tmp_path):
    bundle = export(shown, session.id, tmp_path)
    content = list(bundle.read_bytes())
    shown.evaluate(DRAG, ["dragenter", content])
    shown.get_by_test_id("drop-target").wait_for()
    shown.evaluate(DRAG, ["drop", content])
    shown.get_by_test_id("drop-target").wait_for(state="detached")
    failed = shown.locator('[data-kind="import"][data-state="failed"]')
    assert "is in this home already" in failed.get_by_test_id("job-error").inner_text()
    failed.get_by_test_id("job-as-new").click()
    wait_until(lambda: len(ids(shown)) == 2, "the session beside it")
    assert len(home.session_folders()) == 2


def test_a_damaged_bundle_is_told_until_it_is_dismissed(shown, session, home, tmp_path):
    bundle = export(shown, session.id, tmp_path)
    bundle.write_bytes(bundle.read_bytes()[:-200])
    shown.get_by_test_id("import-file").set_input_files(str(bundle))
    error = shown.get_by_test_id("job-error")
    assert f"{bundle.name} is refused; nothing of it was imported." in error.inner_text()
    # What happens meanwhile does not take it away.
    tiny(home)
    wait_until(lambda: len(ids(shown)) == 2, "another session")
    assert error.is_visible()
    failed = shown.locator('[data-kind="import"]')
    failed.get_by_test_id("job-dismiss").click()
    failed.wait_for(state="detached")


def test_a_session_that_is_trained_keeps_its_place(shown, session):
    lock = AliveLock(session.folder)
    assert lock.acquire()
    try:
        choose(shown, "delete", session.id)
        shown.get_by_test_id("delete-confirm").click()
        error = shown.get_by_test_id("job-error")
        assert "is being trained right now" in error.inner_text()
    finally:
        lock.release()
    assert session.folder.exists()


def test_a_verification_and_metrics(shown, session, tmp_path):
    (session.folder / f"checkpoints/{RUN}-20-best.pt").unlink()
    choose(shown, "verify", session.id)
    verified = shown.locator('[data-kind="verify"]')
    assert (
        "It is not sound: 1 of its 7 files." in verified.get_by_test_id("job-result").inner_text()
    )
    assert "missing" in verified.get_by_test_id("job-remarks").inner_text()

    choose(shown, "metrics", session.id)
    shown.get_by_test_id("metrics-jsonl").check()
    shown.get_by_test_id("metrics-dialog-confirm").click()
    with shown.expect_download() as saved:
        shown.get_by_test_id("job-going").get_by_test_id("job-download").click()
    text = tmp_path / "metrics.jsonl"
    saved.value.save_as(text)
    assert len(text.read_text().splitlines()) == 25


def test_what_waits_to_be_fetched_outlives_a_reload(shown, session, home):
    choose(shown, "export", session.id)
    shown.get_by_test_id("export-none").check()
    shown.get_by_test_id("export-dialog-confirm").click()
    shown.get_by_test_id("job-going").get_by_test_id("job-download").wait_for()
    shown.reload()
    shown.locator('[data-kind="export"]').get_by_test_id("job-download").wait_for()
    shown.get_by_test_id("job-dismiss").click()
    wait_until(
        lambda: not list(home.sessions.glob(f"{TRANSFER}*/*/*.zip")), "that the file is removed"
    )
