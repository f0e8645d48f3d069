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

// An answer that is being written outlives a reload, a lost connection and an ended session. Its key is kept with it:
// sent again, even from a reloaded page, it arrives once.
page.addEventListener("input", ({ target: { form } }) => {
  if (form?.id !== "answer") return;
  const { text, key } = form.elements;
  if (text.value) localStorage.setItem(form.dataset.draft, JSON.stringify({ text: text.value, key: key.value }));
  else localStorage.removeItem(form.dataset.draft);
});
page.addEventListener("htmx:beforeSwap", ({ detail: { requestConfig, xhr } }) => {
  if (requestConfig.elt.id === "answer" && xhr.status < 300) localStorage.removeItem(requestConfig.elt.dataset.draft);
});
page.addEventListener("htmx:load", ({ detail: { elt } }) => {
  const form = elt.querySelector("#answer");
  if (!form) return;
  const { text, key } = form.elements;
  const draft = JSON.parse(localStorage.getItem(form.dataset.draft));
  if (draft && !text.value) [text.value, key.value] = [draft.text, draft.key];
  if (matchMedia("(hover: hover)").matches) text.focus({ preventScroll: true }); // a phone's keyboard would cover the page
});

page.addEventListener("keydown", (event) => {
  const { ctrlKey, metaKey, key, target } = event;
  if ((ctrlKey || metaKey) && key === "Enter" && target.form?.id === "answer") target.form.requestSubmit();
});

// The list stays where it was when another conversation is chosen.
const list = document.querySelector("aside");
if (list) {
  list.scrollTop = sessionStorage.getItem("list") ?? 0;
  addEventListener("pagehide", () => sessionStorage.setItem("list", list.scrollTop));
}
