// What HTML and htmx cannot say. Without it, and without scripts at all, the pages work by links and forms.
"use strict";

const page = document.body;
const isLive = (part) => part.hasAttribute("data-live");

// A page that nobody looks at asks for no news and marks nothing as read.
page.addEventListener("htmx:beforeRequest", (event) => {
  const part = event.detail.elt;
  if (isLive(part) && (document.hidden || !part.checkVisibility())) event.preventDefault();
});

// What went wrong is said above the page. What a poll said the next good poll takes back; the rest stays until something works.
const notice = document.getElementById("notice");
const say = (text, part) => {
  notice.textContent = text;
  notice.dataset.by = isLive(part) ? "poll" : "operator";
  notice.hidden = false;
};
page.addEventListener("htmx:responseError", ({ detail: { xhr, elt } }) => {
  const ours = xhr.getResponseHeader("Content-Type")?.startsWith("text/plain");
  say(ours ? xhr.responseText : notice.dataset.offline, elt);
});
page.addEventListener("htmx:sendError", ({ detail: { elt } }) => say(notice.dataset.offline, elt));
page.addEventListener("htmx:afterRequest", ({ detail: { successful, elt } }) => {
  if (successful && (notice.dataset.by === "poll" || !isLive(elt))) notice.hidden = true;
});

// What is being written, an answer or a note, outlives a reload, a lost connection and an ended session. Its key is kept
// with it: sent again, even from a reloaded page, it arrives once.
page.addEventListener("input", ({ target: { form } }) => {
  if (!form?.dataset.draft) return;
  const [text, { key }] = [form.querySelector("textarea"), form.elements];
  if (text.value) localStorage.setItem(form.dataset.draft, JSON.stringify({ text: text.value, key: key.value }));
  else localStorage.removeItem(form.dataset.draft);
});
page.addEventListener("htmx:beforeSwap", ({ detail: { requestConfig, xhr } }) => {
  const { draft } = requestConfig.elt.dataset;
  if (draft && xhr.status < 300) localStorage.removeItem(draft);
});
page.addEventListener("htmx:load", ({ detail: { elt } }) => {
  for (const form of elt.querySelectorAll("form[data-draft]")) {
    const [text, { key }] = [form.querySelector("textarea"), form.elements];
    const draft = JSON.parse(localStorage.getItem(form.dataset.draft));
    if (draft && !text.value) {
      [text.value, key.value] = [draft.text, draft.key];
      form.closest("details")?.setAttribute("open", "");
    }
  }
  const answer = elt.querySelector("#answer");
  // a phone's keyboard would cover the page
  if (answer && matchMedia("(hover: hover)").matches) answer.elements.text.focus({ preventScroll: true });
});

// A canned answer takes the place of its "/word", or of what is selected.
const insert = (text, begin, end, canned) => {
  text.setRangeText(canned, begin, end, "end");
  text.dispatchEvent(new Event("input", { bubbles: true }));
};
page.addEventListener("click", (event) => {
  if (!("insert" in event.target.dataset)) return;
  event.preventDefault();
  const { text, canned } = event.target.form.elements;
  insert(text, text.selectionStart, text.selectionEnd, canned.selectedOptions[0].dataset.text ?? "");
  canned.value = "";
  text.focus();
});
page.addEventListener("keydown", (event) => {
  const { key, target } = event;
  if ((key !== " " && key !== "Enter") || target.form?.id !== "answer" || target.name !== "text") return;
  const [word] = target.value.slice(0, target.selectionStart).match(/(?<!\S)\/\S+$/) ?? [];
  const options = [...(target.form.elements.canned?.options ?? [])];
  const found = word && options.find((option) => option.value === word.slice(1).toLowerCase());
  if (!found) return;
  event.preventDefault();
  insert(target, target.selectionStart - word.length, target.selectionStart, found.dataset.text);
});

// The keys that the page lists under "Keys".
const neighbour = (step) => {
  const rows = [...document.querySelectorAll("#inbox .row")];
  const current = rows.findIndex((row) => row.hasAttribute("aria-current"));
  rows[current < 0 ? 0 : current + step]?.click();
};
const keys = {
  ArrowDown: () => neighbour(1),
  ArrowUp: () => neighbour(-1),
  KeyN: () => {
    const note = document.getElementById("note");
    if (!note) return; // nothing is chosen, or a page of the past
    note.open = true;
    note.querySelector("textarea").focus();
  },
};
page.addEventListener("keydown", (event) => {
  const { ctrlKey, metaKey, altKey, code, key, target } = event;
  if ((ctrlKey || metaKey) && key === "Enter" && target.form?.dataset.draft) target.form.requestSubmit();
  else if (key === "Escape" && !target.matches("input, select")) document.querySelector("#head .back")?.click();
  else if (altKey && code in keys && document.getElementById("inbox")) {
    event.preventDefault();
    keys[code]();
  }
});

// The list stays where it was when another conversation is chosen.
const list = document.querySelector("aside");
if (list) {
  list.scrollTop = sessionStorage.getItem("list") ?? 0;
  addEventListener("pagehide", () => sessionStorage.setItem("list", list.scrollTop));
}
