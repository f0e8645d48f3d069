"""The sandbox's page in a real browser: what a newcomer sees and clicks."""

import json
from collections.abc import Iterator

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from tests.bot import Sandbox
from tests.test_sandbox import PIXEL, call, poll

KEYBOARD = {
    "one_time": True,
    "buttons": [[{"action": {"type": "text", "label": "Цены", "payload": '{"topic": "prices"}'}, "color": "primary"}]],
}
INLINE = {
    "inline": True,
    "buttons": [
        [{"action": {"type": "callback", "label": "Оценить", "payload": '{"mark": 5}'}}],
        [{"action": {"type": "open_link", "label": "Сайт", "link": "https://example.org/"}}, {"action": {"type": "location"}}],
    ],
}


@pytest.fixture
def page(browser: Browser, sandbox: Sandbox) -> Iterator[Page]:
    """The page, open. Fails at the end if a script failed or the content security policy was broken."""
    context = browser.new_context(viewport={"width": 1200, "height": 800}, locale="ru-RU")
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if "Content Security Policy" in message.text else None)
    page.goto(sandbox.url)
    yield page
    context.close()
    assert complaints == []


def reply(sandbox: Sandbox, text: str, **more: object) -> None:
    params = {key: value if isinstance(value, str) else json.dumps(value) for key, value in more.items()}
    call(sandbox, "messages.send", peer_id=101, message=text, random_id=0, **params)


def test_a_dialog_begins_with_start_and_goes_on_by_the_buttons(sandbox: Sandbox, page: Page) -> None:
    expect(page.locator("#people [aria-current=true]")).to_contain_text("Анна Смирнова")
    page.get_by_role("button", name="Начать").click()
    expect(page.locator("article[data-from=person]")).to_contain_text("Начать")
    reply(sandbox, "Здравствуйте!", keyboard=KEYBOARD)
    expect(page.locator("article[data-from=community]")).to_contain_text("Здравствуйте!")
    page.get_by_role("button", name="Цены").click()
    expect(page.locator("article")).to_have_count(3)
    expect(page.locator("#keyboard button")).to_have_count(0)  # its keyboard was for one time
    said = [(message["text"], json.loads(message["payload"])) for message in sandbox.dialog(101) if not message["out"]]
    assert said == [("Начать", {"command": "start"}), ("Цены", {"topic": "prices"})]


def test_a_message_is_written_with_the_keyboard_alone(sandbox: Sandbox, page: Page) -> None:
    page.get_by_role("textbox", name="Сообщение").focus()
    page.keyboard.type("<b>первая</b>")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("вторая")
    page.keyboard.press("Enter")
    expect(page.locator("article[data-from=person] p")).to_have_text("<b>первая</b>\nвторая")
    assert [message["text"] for message in sandbox.dialog(101)] == ["<b>первая</b>\nвторая"]


def test_buttons_inside_a_message_and_pictures_work(sandbox: Sandbox, page: Page) -> None:
    sandbox.say(101, "Покажите")
    url = call(sandbox, "photos.getMessagesUploadServer")["upload_url"]
    uploaded = requests.post(url, files={"photo": ("photo.png", PIXEL)}, timeout=10).json()
    [photo] = call(sandbox, "photos.saveMessagesPhoto", **uploaded)
    reply(sandbox, "Вот", keyboard=INLINE, attachment=f"photo{photo['owner_id']}_{photo['id']}")
    picture = page.locator("article img")
    expect(picture).to_have_js_property("naturalWidth", 1)
    expect(page.get_by_role("link", name="Сайт")).to_have_attribute("href", "https://example.org/")
    expect(page.locator("article button:disabled")).to_have_count(1)
    page.get_by_role("button", name="Оценить").click()
    [press] = poll(sandbox, ts="1", wait=10)["updates"]
    assert press["object"]["payload"] == {"mark": 5}
    about = {"event_id": press["object"]["event_id"], "user_id": 101, "peer_id": 101}
    call(sandbox, "messages.sendMessageEventAnswer", **about, event_data='{"type": "show_snackbar", "text": "Спасибо!"}')
    expect(page.get_by_role("alert")).to_have_text("Спасибо!")


def test_a_carousel_is_shown_and_its_buttons_work(sandbox: Sandbox, page: Page) -> None:
    sandbox.say(101, "Покажите")
    url = call(sandbox, "photos.getMessagesUploadServer")["upload_url"]
    uploaded = requests.post(url, files={"photo": ("photo.png", PIXEL)}, timeout=10).json()
    [photo] = call(sandbox, "photos.saveMessagesPhoto", **uploaded)
    link = {"type": "open_link", "link": "https://example.org/"}
    buy = [{"action": {"type": "text", "label": "Купить", "payload": '{"buy": 1}'}}]
    cards = [
        {"title": f"Товар {number}", "description": "Новинка", "photo_id": f"{photo['owner_id']}_{photo['id']}", "action": link}
        for number in range(10)
    ]
    reply(sandbox, "Вот", template={"type": "carousel", "elements": [card | {"buttons": buy} for card in cards]})
    expect(page.locator(".carousel section")).to_have_count(10)
    last = page.locator(".carousel section").last
    expect(last.locator("img")).to_have_js_property("naturalWidth", 1)
    expect(last).to_contain_text("Новинка")
    expect(last.get_by_role("link", name="Товар 9")).to_have_attribute("href", "https://example.org/")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    last.get_by_role("button", name="Купить").click()
    expect(page.locator("article[data-from=person]").last).to_contain_text("Купить")
    assert json.loads(sandbox.dialog(101)[-1]["payload"]) == {"buy": 1}


def test_a_new_person_has_a_dialog_of_their_own(sandbox: Sandbox, page: Page) -> None:
    sandbox.say(101, "Это пишет Анна")
    expect(page.locator("article")).to_have_count(1)
    page.get_by_text("Новый человек").click()
    page.get_by_label("Имя").fill("Ольга")
    page.get_by_label("Фамилия").fill("Ли")
    page.get_by_role("button", name="Добавить").click()
    expect(page.locator("#people [aria-current=true]")).to_contain_text("Ольга Ли")
    expect(page.locator("article")).to_have_count(0)
    page.locator("#people button", has_text="Анна").click()
    expect(page.locator("article")).to_contain_text("Это пишет Анна")


def test_people_talk_in_a_group_chat_and_press_its_buttons(sandbox: Sandbox, page: Page) -> None:
    page.get_by_text("Новая беседа").click()
    page.get_by_label("Название").fill("Операторы")
    page.locator("#gathering").get_by_role("button", name="Добавить").click()
    expect(page.locator("#chats [aria-current=true]")).to_contain_text("Операторы")
    expect(page.locator("article")).to_contain_text("теперь в беседе")
    chat = 2_000_000_001
    take = {"inline": True, "buttons": [[{"action": {"type": "text", "label": "Взять", "payload": '{"command": "take"}'}}]]}
    call(sandbox, "messages.send", peer_id=chat, message="Новое обращение", keyboard=json.dumps(take), random_id=0)
    page.get_by_role("combobox").select_option("Иван Петров")
    page.get_by_role("button", name="Взять").click()
    expect(page.locator("article[data-from=person]").last).to_contain_text("@Community Desk Взять")
    said = sandbox.dialog(chat)[-1]
    assert (said["from_id"], said["text"], said["payload"]) == (102, "[club1|@Community Desk] Взять", '{"command": "take"}')
    expect(page.locator("article").last.locator("b")).to_have_text("Иван Петров")
    expect(page.locator("#consent")).to_be_hidden()


def test_files_are_sent_with_what_is_written(sandbox: Sandbox, page: Page) -> None:
    page.get_by_role("textbox", name="Сообщение").fill("Вот они")
    files = [("кот.png", "image/png", PIXEL), ("счёт.pdf", "application/pdf", b"%PDF")]
    chosen = [{"name": name, "mimeType": kind, "buffer": content} for name, kind, content in files]
    page.get_by_label("Прикрепить").set_input_files(chosen)  # type: ignore[arg-type]  # a list of its own typed dictionaries
    expect(page.locator("article img")).to_have_js_property("naturalWidth", 1)
    with page.expect_download() as download:
        page.get_by_role("link", name="счёт.pdf").click()
    assert download.value.path().read_bytes() == b"%PDF"
    [message] = sandbox.dialog(101)
    assert (message["text"], [each["type"] for each in message["attachments"]]) == ("Вот они", ["photo", "doc"])
    expect(page.get_by_role("textbox", name="Сообщение")).to_have_value("")


def test_a_person_forbids_the_community_to_write(sandbox: Sandbox, page: Page) -> None:
    sandbox.say(101, "Привет")
    switch = page.get_by_role("switch", name="Сообщения разрешены")
    expect(switch).to_be_checked()
    switch.click()
    [denied] = poll(sandbox, ts="1", wait=10)["updates"]
    assert (denied["type"], denied["object"]) == ("message_deny", {"user_id": 101})
    sandbox.say(101, "Передумала")
    expect(switch).to_be_checked()


def test_what_does_not_work_is_said_in_words(sandbox: Sandbox, page: Page) -> None:
    notice = page.locator("#notice")
    expect(notice).to_contain_text("Бот не подключён")
    poll(sandbox)
    expect(notice).to_be_hidden()
    expect(page.locator("#state")).to_have_text("бот подключён")
    page.route("**/control/**", lambda route: route.abort())
    expect(notice).to_contain_text("Песочница не отвечает")
    page.unroute("**/control/**")
    expect(notice).not_to_contain_text("Песочница не отвечает")


def test_on_a_telephone_nothing_hangs_over_the_edge(sandbox: Sandbox, page: Page) -> None:
    sandbox.say(101, "оченьдлинноесловобезпробелов" * 10)
    reply(sandbox, "Да", keyboard=KEYBOARD)
    page.set_viewport_size({"width": 360, "height": 640})
    expect(page.locator("article")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for part in ("#people", "#thread", "#keyboard", "#write"):
        expect(page.locator(part)).to_be_in_viewport()
