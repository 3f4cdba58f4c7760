// Search and copying on the documentation page. Whatever is read and followed is there
// without it.
"use strict";
(() => {
  const root = document.documentElement;
  const field = document.querySelector("#search input");
  const count = document.querySelector("#found");
  const articles = [...document.querySelectorAll("article[id]")].map((element) => ({
    element,
    text: element.textContent.toLowerCase(),
    link: document.querySelector(`nav a[href="#${CSS.escape(element.id)}"]`)?.closest("li"),
  }));
  root.classList.add("js");

  // Sections without anything found are hidden with their heading in the contents.
  const show = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const { element, text, link } of articles) {
      const isFound = words.every((word) => text.includes(word));
      element.hidden = !isFound;
      if (link) link.hidden = !isFound;
      found += isFound;
    }
    for (const section of document.querySelectorAll("main > section")) {
      const own = [...section.querySelectorAll("article")];
      section.hidden = words.length > 0 && own.every((article) => article.hidden || !article.id);
      const heading = document.querySelector(`nav h2 a[href="#${CSS.escape(section.id)}"]`);
      if (heading) heading.parentElement.hidden = section.hidden;
    }
    document.querySelector("#top").hidden = words.length > 0;
    count.textContent = words.length === 0 ? "" : found === 1 ? "1 found" : `${found} found`;
  };

  const remember = () => {
    const url = new URL(location.href);
    url.searchParams.delete("q");
    if (field.value) url.searchParams.set("q", field.value);
    history.replaceState(null, "", url);
  };
  const search = (text) => {
    field.value = text;
    show();
    remember();
  };
  field.addEventListener("input", () => search(field.value));
  document.querySelector("#search").addEventListener("submit", (event) => event.preventDefault());

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && event.target === field) {
      search("");
      field.blur();
    } else if (event.key === "/" && !event.target.closest("input, textarea, select")) {
      event.preventDefault();
      field.focus();
    }
  });

  // A link to what the search has hidden shows everything again.
  addEventListener("hashchange", () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target || !target.closest("[hidden]")) return;
    search("");
    target.scrollIntoView();
  });
  const asked = new URL(location.href).searchParams.get("q");
  if (asked) search(asked);

  // Browsers give the clipboard to pages of secure origins alone.
  if (navigator.clipboard) {
    for (const block of document.querySelectorAll("pre")) {
      const box = document.createElement("div");
      const button = document.createElement("button");
      box.className = "copied";
      button.type = "button";
      button.textContent = "Copy";
      button.addEventListener("click", async () => {
        const isDone = await navigator.clipboard.writeText(block.textContent).then(() => true, () => false);
        button.textContent = isDone ? "Copied" : "Not copied";
        setTimeout(() => { button.textContent = "Copy"; }, 2000);
      });
      block.replaceWith(box);
      box.append(block, button);
    }
  }

  // Whoever comes from a project in the console tries requests in that one.
  const from = document.referrer && new URL(document.referrer);
  const [, project] = (from && from.origin === location.origin && from.pathname.match(/^\/console\/(prj_[a-z0-9]+)/)) || [];
  for (const link of project ? document.querySelectorAll("a.try") : []) {
    link.pathname = link.pathname.replace(/^\/console\//, `/console/${project}/`);
  }
})();
