"""The dashboard in a real browser, on a real system: what each page shows, and what can be done there."""

import re

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser, BrowserContext, expect

from serving.cli.main import main
from tests.serving.dashboard.conftest import HOSTILE, READER, VERSIONS, System, Visit, sign_in


@pytest.mark.parametrize(
    ("path", "shows"),
    [
        ("/user?user=nobody-yet", ["has not done anything yet"]),
        ("/items", ["Trending"]),
        ("/items?item=unheard-of", ["has named the item"]),
        ("/health", ["What comes in", "What the model reads", "checksums right"]),
    ],
)
def test_a_page_says_what_there_is_or_why_there_is_nothing(visit: Visit, path: str, shows: list[str]) -> None:
    page = visit.open(path)
    for text in shows:
        expect(page.get_by_text(text).first).to_be_visible()


def test_the_live_page_moves_with_what_comes_by(visit: Visit, system: System) -> None:
    page = visit.open("/")
    applied = page.locator(".ms-tile [data-live=total]")
    expect(applied).to_have_text(re.compile(r"\d+ in all"))
    before = applied.inner_text()
    system.like("passer-by", "i3")
    expect(page.locator("#ms-events")).to_contain_text("passer-by")
    expect(page.locator("#ms-lists")).to_contain_text("passer-by")
    expect(applied).not_to_have_text(before)
    # recall, throughput, freshness and engagement
    expect(page.locator(".nicegui-echart canvas")).to_have_count(4)


def test_an_experiment_is_shown_by_verdict_charts_and_what_tells_users_apart(visit: Visit, system: System) -> None:
    page = visit.open("/experiments")
    expect(page.get_by_text("Too early: fewer than 100 users in as-is, fresher.")).to_be_visible()
    expect(page.get_by_text("fresher: 50%, pipeline fresh")).to_be_visible()
    expect(page.get_by_text("No shadow runs.")).to_be_visible()
    expect(page.get_by_text(re.compile("sessions with a click or a watch; the . value"))).to_be_visible()
    for command, says in (("results", "mix: Too early"), ("off-policy", "no list that could explore was shown yet")):
        told = CliRunner().invoke(main, ["experiments", command, "--api", system.api_url, "--token", READER])
        assert says in told.output, "the command line tells the same"
    page.get_by_label("by", exact=True).click()
    page.get_by_role("option", name="variant").click()
    page.get_by_label("rate", exact=True).click()
    page.get_by_role("option", name="click through").click()
    expect(page.get_by_text("Nothing could be counted yet")).to_be_visible()
    # effect, course, means, users and all metrics
    expect(page.locator(".nicegui-echart canvas").nth(4)).to_be_visible()


def test_a_title_is_text_wherever_it_stands(visit: Visit, system: System) -> None:
    page = visit.open("/items?item=i0")
    expect(page.locator(".ms-item-title")).to_have_text(HOSTILE)
    page.get_by_role("link", name="Live", exact=True).click()
    expect(page.locator("#ms-events")).to_be_visible()
    system.like("passer-by", "i0")
    expect(page.locator("#ms-events")).to_contain_text(HOSTILE)
    assert page.locator("img[src=x]").count() == 0


def test_hiding_an_item_changes_the_list_within_a_measured_time(visit: Visit) -> None:
    page = visit.open("/user?user=ann")
    first = page.locator(".ms-place-title").first
    expect(first).to_be_visible()
    title = first.inner_text()
    page.get_by_role("button", name="Hide").first.click()
    status = page.locator(".ms-status")
    expect(status).to_have_text(re.compile(rf"Hide .{re.escape(title)}.: the new list was here after \d+ ms\."))
    expect(page.get_by_role("link", name=title, exact=True)).to_have_count(0)
    page.get_by_label("Title or id of an item").fill(title)
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_text("the user hid it")).to_be_visible()


def test_a_newcomer_chooses_and_gets_a_first_list(visit: Visit) -> None:
    page = visit.open("/onboarding")
    page.get_by_label("User id").fill("newcomer")
    page.get_by_role("button", name="drama", exact=True).click()
    expect(page.get_by_role("button", name="drama", exact=True)).to_have_attribute("aria-pressed", "true")
    page.get_by_label("Something you like").fill("Film 7")
    page.get_by_role("button", name="Film 7", exact=True).click()
    page.get_by_role("button", name="Show the first list").click()
    expect(page.get_by_text("onboarding: genre=drama")).to_be_visible()
    expect(page.get_by_text("onboarding items: Film 7")).to_be_visible()
    expect(page.locator(".ms-place").first).to_be_visible()


def test_an_item_is_withdrawn_and_restored_with_its_title(visit: Visit) -> None:
    page = visit.open("/items")
    page.get_by_label("Title or id").fill("film 5")
    page.get_by_role("link", name="Film 5", exact=True).click()
    page.get_by_role("button", name="Withdraw").click()
    page.get_by_role("dialog").get_by_role("button", name="Withdraw").click()
    expect(page.locator(".ms-chip", has_text="withdrawn")).to_be_visible()
    page.get_by_role("button", name="Restore").click()
    expect(page.locator(".ms-chip", has_text="may be recommended")).to_be_visible()
    expect(page.locator(".ms-item-title")).to_have_text("Film 5")


def test_a_model_is_rolled_back_announced_and_served(visit: Visit, system: System) -> None:
    page = visit.open("/models")
    older, newer = VERSIONS
    assert system.artefacts.current() == newer
    expect(page.get_by_text("mean loss of each epoch")).to_be_visible()
    page.locator(".ms-version", has_text=older).get_by_role("button", name="Roll back to it").click()
    page.get_by_role("dialog").get_by_label("Why?").fill("lists look stale")
    page.get_by_role("dialog").get_by_role("button", name="Put into service").click()
    expect(page.get_by_text(f"by hand in place of {newer}: lists look stale")).to_be_visible()
    assert system.artefacts.current() == older
    page.get_by_role("link", name="Live", exact=True).click()
    expect(page.locator(".ms-lying [data-live=model]")).to_have_text(older)


def test_a_dead_letter_is_read_and_sent_again(visit: Visit) -> None:
    page = visit.open("/dead-letters")
    letter = page.locator(".ms-letter").last
    letter.locator("summary").click()
    expect(letter).to_contain_text('"user_id": "bob"')
    letter.get_by_role("button", name="Send again").click()
    page.get_by_role("button", name=re.compile("Show 1 more")).click()
    expect(page.locator(".ms-letter").first).to_contain_text("sent again and failed again")


def test_what_needs_a_token_is_refused_without_it(browser: Browser, system: System) -> None:
    context = browser.new_context()
    page = context.new_page()
    sign_in(page, system, "a-guess")
    expect(page.get_by_text("The token is not known here.")).to_be_visible()
    page.goto(system.url + "/user?user=ann")
    expect(page.get_by_label("Token")).to_be_visible()
    assert page.locator(".ms-place").count() == 0, "nothing of a user is told"
    sign_in(page, system, READER)
    page.get_by_role("link", name="Models").click()
    page.locator(".ms-version").get_by_role("button").first.click()
    expect(page.get_by_text("needs a token with the scope admin")).to_be_visible()
    assert READER not in page.url and READER not in str(context.cookies())
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    context.close()
    log = (system.settings.data_dir.parent / "api.log").read_text()
    assert "for a moment" not in log, "nothing failed beside the counting"
    assert "WebSocket" not in log and READER not in log and "a-guess" not in log


def test_the_keyboard_reaches_content_and_pages(visit: Visit) -> None:
    page = visit.open("/items")
    expect(page.locator(".ms-card").first).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="User", level=1)).to_be_visible()


def test_the_api_stops_while_pages_are_open(owner: BrowserContext, system: System) -> None:
    # the last test of the module, as the others need what it stops
    pages = [owner.new_page() for _ in range(2)]
    for page in pages:
        page.goto(system.url + "/")
        expect(page.locator("#ms-events")).to_be_visible()
    system.api.terminate()
    assert system.api.wait(20) == 0, "within the grace that `up` gives"
