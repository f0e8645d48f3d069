// The chat page: it shows the dialogs by asking the control API once a second, and writes as the chosen person.

const PAUSE = 1000;
const PATIENCE = 5; // seconds without an answer after which the page says something
const words = document.body.dataset;
const people = document.querySelector("#people");
const thread = document.querySelector("#thread");
const keyboard = document.querySelector("#keyboard");
const notice = document.querySelector("#notice");
const state = document.querySelector("#state");
const write = document.querySelector("#write");
const newcomer = document.querySelector("#newcomer");
const gathering = document.querySelector("#gathering");
const chats = document.querySelector("#chats");
const consent = document.querySelector("#consent");
const FIRST_CHAT = 2000000001;

let chosen = Number(location.hash.slice(1)); // a person, or a group chat
let messages = [];
let names = new Map(); // of people, by id
let members = new Map(); // of chats, by id

async function call(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(`control/${path}`, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function say(text, seconds) {
  if (notice.textContent !== text) notice.textContent = text;
  notice.hidden = !text;
  if (seconds) setTimeout(() => notice.textContent === text && say(""), seconds * 1000);
}

// ---- people and chats

function showPeople(persons, groups) {
  if (![...persons, ...groups].some((peer) => peer.id === chosen)) chosen = persons[0].id;
  names = new Map(persons.map((person) => [person.id, `${person.first_name} ${person.last_name}`.trim()]));
  members = new Map(groups.map((chat) => [chat.id, chat.members]));
  for (const person of persons) showEntry(people, person, names.get(person.id));
  for (const chat of groups) showEntry(chats, chat, chat.title);
  document.querySelector("#chats-title").hidden = !groups.length;
  const person = persons.find((each) => each.id === chosen);
  consent.hidden = !person;
  if (person) consent.firstElementChild.checked = person.allowed;
  showSpeakers();
}

function showEntry(list, peer, name) {
  let entry = [...list.children].find((each) => Number(each.dataset.id) === peer.id);
  if (!entry) {
    const avatar = make("span", { className: `avatar tint${peer.id % 4}`, ariaHidden: "true" }, name[0]);
    const button = make("button", { type: "button", onclick: () => choose(peer.id) }, avatar, make("b", {}, name), make("small"));
    entry = make("li", {}, button);
    entry.dataset.id = peer.id;
    list.append(entry);
  }
  entry.firstChild.setAttribute("aria-current", peer.id === chosen);
  const last = peer.last_message;
  entry.querySelector("small").textContent = last ? shown(last.text) : words.silent;
}

// in a chat one of its members speaks
function showSpeakers() {
  const ids = members.get(chosen) ?? [];
  write.speaker.hidden = !ids.length;
  if (ids.join() === [...write.speaker.options].map((option) => option.value).join()) return;
  write.speaker.replaceChildren(...ids.map((id) => make("option", { value: id }, names.get(id))));
}

function speaker() {
  return isChat() ? { from_id: Number(write.speaker.value), peer_id: chosen } : { from_id: chosen };
}

function isChat() {
  return chosen >= FIRST_CHAT;
}

function choose(id) {
  chosen = id;
  history.replaceState(null, "", `#${id}`);
  messages = [];
  thread.replaceChildren();
  keyboard.replaceChildren();
  say("");
  for (const entry of [...people.children, ...chats.children]) {
    entry.firstChild.setAttribute("aria-current", Number(entry.dataset.id) === id);
  }
  showSpeakers();
  act(refresh);
}

consent.firstElementChild.onchange = (event) => act(() => call(`people/${chosen}`, { allowed: event.target.checked }));

gathering.querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  act(async () => {
    const chat = await call("chats", { title: event.target.title.value, members: [...names.keys()] });
    event.target.reset();
    gathering.open = false;
    choose(chat.id);
  });
};

newcomer.querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  act(async () => {
    const person = await call("people", Object.fromEntries(new FormData(event.target)));
    event.target.reset();
    newcomer.open = false;
    choose(person.id);
    write.text.focus();
  });
};

// ---- messages

// a mention as people see it
function shown(text) {
  return text.replace(/\[(?:club|id)\d+\|([^\]]+)\]/g, "$1");
}

function showMessage(message) {
  const article = make("article", {});
  article.dataset.from = message.out ? "community" : "person";
  if (isChat() && !message.out) article.append(make("b", {}, names.get(message.from_id) ?? ""));
  const text = message.action?.type === "chat_invite_user" ? words.invited : shown(message.text);
  if (text) article.append(make("p", {}, text));
  for (const { photo, doc } of message.attachments) {
    if (photo) article.append(make("img", { src: pictureOf(photo), alt: words.picture, onload: scrollDown }));
    if (doc) article.append(make("a", { className: "file", href: new URL(doc.url).pathname, download: doc.title }, doc.title));
  }
  if (message.template) {
    article.append(make("div", { className: "carousel" }, ...message.template.elements.map((card) => showCard(card, message))));
  }
  if (message.keyboard?.inline) {
    article.append(make("div", { className: "buttons" }, ...rows(message.keyboard, message)));
  }
  const date = new Date(message.date * 1000);
  const time = date.toLocaleTimeString(document.documentElement.lang, { hour: "2-digit", minute: "2-digit" });
  article.append(make("time", { dateTime: date.toISOString() }, time));
  return article;
}

function showCard({ title, description, photo, buttons, action }, message) {
  const link = action?.type === "open_link" && /^https?:/.test(action.link) ? action.link : photo && pictureOf(photo);
  const card = make("section", {});
  if (photo) card.append(make("img", { src: pictureOf(photo), alt: title ?? words.picture, onload: scrollDown }));
  if (title && link) card.append(make("a", { href: link, target: "_blank", rel: "noopener" }, title));
  else if (title) card.append(make("b", {}, title));
  if (description) card.append(make("p", {}, description));
  card.append(...rows({ buttons: buttons.map((button) => [button]) }, message));
  return card;
}

// only the path: a picture is here, whatever name the one who sent it knows this server by
function pictureOf(photo) {
  return new URL(photo.sizes.at(-1).url).pathname;
}

function scrollDown() {
  thread.scrollTop = thread.scrollHeight;
}
// a notice or a keyboard below takes room from the thread
new ResizeObserver(scrollDown).observe(thread);

function showKeyboard() {
  const owner = messages.findLast((message) => message.keyboard && !message.keyboard.inline);
  const used = owner?.keyboard.one_time && messages.some((message) => !message.out && message.id > owner.id);
  keyboard.replaceChildren(...(owner && !used ? rows(owner.keyboard, owner) : []));
}

function showStart() {
  const start = make("button", { type: "button", onclick: () => send(words.start, { payload: { command: "start" } }) }, words.start);
  start.dataset.payload = JSON.stringify({ command: "start" });
  thread.replaceChildren(make("div", { className: "start" }, words.silent, start));
}

// ---- buttons

function rows(content, message) {
  return content.buttons.map((row) => make("div", { className: "row" }, ...row.map((button) => showButton(button, message))));
}

function showButton({ action, color }, message) {
  if (action.type === "open_link" && /^https?:/.test(action.link)) {
    return make("a", { href: action.link, target: "_blank", rel: "noopener" }, action.label);
  }
  // in a chat VK puts the mention of the community before the label
  const label = isChat() ? `${words.mention} ${action.label}` : action.label;
  const press = { text: () => send(label, { payload: action.payload }), callback: () => tell(action, message) }[action.type];
  const properties = { type: "button", className: color ?? "", onclick: press, disabled: !press, title: press ? "" : words.elsewhere };
  const button = make("button", properties, action.label ?? action.type);
  button.dataset.payload = typeof action.payload === "string" ? action.payload : JSON.stringify(action.payload ?? {});
  return button;
}

async function tell(action, message) {
  await act(async () => {
    const press = { ...speaker(), conversation_message_id: message.conversation_message_id, payload: action.payload || {} };
    const { event_id } = await call("presses", press);
    for (let second = 0; second < PATIENCE; second += 1) {
      const { answered, answer } = await call(`presses/${event_id}`);
      if (answered) return say(answer?.text ?? answer?.link ?? "", PATIENCE);
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
    return say(words.slow);
  });
}

// ---- writing

function send(text, { payload, attachments } = {}) {
  return act(async () => {
    if (!names.size) await refresh(); // who writes before the page knows as whom
    await call("messages", { ...speaker(), text, ...(payload ? { payload } : {}), ...(attachments ? { attachments } : {}) });
    await look();
  });
}

function read(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve({ name: file.name, content: reader.result.split(",", 2)[1] ?? "" });
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

// files go at once, with what is written so far
write.files.onchange = () =>
  act(async () => {
    const attachments = await Promise.all([...write.files.files].map(read));
    const text = write.text.value.trim();
    write.files.value = write.text.value = "";
    await send(text, { attachments });
  });

async function act(action) {
  say("");
  try {
    await action();
  } catch (error) {
    say(error instanceof TypeError ? words.down : error.message);
  }
}

write.onsubmit = async (event) => {
  event.preventDefault();
  const text = write.text.value.trim();
  if (!text) return;
  write.text.value = "";
  await send(text);
};
write.text.onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  write.requestSubmit();
};

// ---- the loop

async function look() {
  const id = chosen;
  const after = messages.at(-1)?.conversation_message_id ?? 0;
  const { items, typing, heard } = await call(`messages?peer_id=${id}&after=${after}`);
  // the person or the dialog has changed while we were asking
  if (id !== chosen || after !== (messages.at(-1)?.conversation_message_id ?? 0)) return;
  if (!after && items.length) thread.replaceChildren();
  if (items.length) {
    messages.push(...items);
    thread.append(...items.map(showMessage));
    showKeyboard();
    scrollDown();
  } else if (!after && !thread.firstChild) {
    showStart();
  }
  const how = typing ? words.typing : heard ? words.online : words.offline;
  if (state.textContent !== how) state.textContent = how;
  const last = messages.at(-1);
  const waiting = last && !last.out && !isChat() && Date.now() / 1000 - last.date > PATIENCE;
  if (!heard) say(words.away);
  else if (waiting) say(words.slow);
  else if ([words.away, words.slow, words.down].includes(notice.textContent)) say("");
}

async function refresh() {
  const [persons, groups] = await Promise.all([call("people"), call("chats")]);
  showPeople(persons.items, groups.items);
  await look();
}

async function loop() {
  try {
    if (!document.hidden || !messages.length) {
      await refresh();
    }
  } catch {
    say(words.down);
  }
  setTimeout(loop, PAUSE);
}

loop();
