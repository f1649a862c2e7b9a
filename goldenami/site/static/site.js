// Search, copy buttons and the comparison of two releases. Everything else works without scripts.
"use strict";
(function () {
  const root = document.documentElement.dataset.root || "";

  function element(name, text, attributes) {
    const made = document.createElement(name);
    if (text) made.textContent = text;
    Object.entries(attributes || {}).forEach(([key, value]) => made.setAttribute(key, value));
    return made;
  }

  function load(source, done) {
    const script = element("script", "", { src: source });
    script.onload = done;
    document.head.append(script);
  }

  // --- search: names, versions and image ids; the index is loaded at the first key ---------------------------------
  const field = document.querySelector("#search");
  const results = document.querySelector("#results");
  const status = document.querySelector("#status");

  function show() {
    const words = field.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    results.replaceChildren();
    results.hidden = words.length === 0;
    if (!words.length) { status.textContent = ""; return; }
    const found = window.INDEX.filter(([text]) => words.every((word) => text.includes(word)));
    found.slice(0, 30).forEach(([, title, link]) => {
      const item = element("li");
      item.append(element("a", title, { href: root + link }));
      results.append(item);
    });
    if (!found.length) results.append(element("li", "Nothing found", { class: "quiet" }));
    status.textContent = found.length === 1 ? "1 result" : found.length + " results";
  }

  if (field) {
    field.closest("form").addEventListener("submit", (event) => {
      event.preventDefault();
      const first = results.querySelector("a");
      if (first) location.href = first.href;
    });
    field.addEventListener("input", () => { window.INDEX ? show() : load(root + "search.js", show); });
    field.addEventListener("keydown", (event) => {
      const first = results.querySelector("a");
      if (event.key === "ArrowDown" && first) { event.preventDefault(); first.focus(); }
    });
    results.addEventListener("keydown", (event) => {
      const item = document.activeElement.closest("li");
      const next = event.key === "ArrowDown" ? item.nextElementSibling : event.key === "ArrowUp" ? item.previousElementSibling : null;
      if (next && next.firstElementChild) { event.preventDefault(); next.firstElementChild.focus(); }
      else if (event.key === "ArrowUp") { event.preventDefault(); field.focus(); }
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !results.hidden) { results.hidden = true; field.focus(); }
    });
  }

  // --- copy ---------------------------------------------------------------------------------------------------------
  function copied(button, worked) {
    const before = button.textContent;
    button.textContent = worked ? "Copied" : "Select it";
    if (status) status.textContent = worked ? button.dataset.copy.slice(0, 80) + " copied" : "Copying is not allowed here";
    setTimeout(() => { button.textContent = before; }, 1500);
  }

  function copy(text) {
    // navigator.clipboard is only there for https. From a file, a selection is copied.
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text).then(() => true, () => old(text));
    return Promise.resolve(old(text));
  }

  function old(text) {
    const area = element("textarea", "", { "aria-hidden": "true", style: "position:fixed;left:-100rem" });
    const focused = document.activeElement;
    area.value = text;
    document.body.append(area);
    area.select();
    const worked = document.execCommand("copy");
    area.remove();
    if (focused) focused.focus();
    return worked;
  }

  document.querySelectorAll("button.copy").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", () => copy(button.dataset.copy).then((worked) => copied(button, worked)));
  });

  // --- search within a table ------------------------------------------------------------------------------------------
  document.querySelectorAll("input.within").forEach((input) => {
    const rows = [...document.getElementById(input.dataset.within).tBodies[0].rows];
    input.addEventListener("input", () => {
      const words = input.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
      rows.forEach((row) => { row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word)); });
      const count = rows.filter((row) => !row.hidden).length;
      if (status) status.textContent = count + " of " + rows.length;
    });
  });

  // --- any two releases -----------------------------------------------------------------------------------------------
  const compare = document.querySelector("#compare");
  window.RELEASES = window.RELEASES || {};

  function differences(before, after) {
    const rows = [];
    new Set([...Object.keys(before), ...Object.keys(after)]).forEach((key) => {
      if (before[key] !== after[key]) rows.push([key, before[key], after[key]]);
    });
    return rows.sort((one, other) => (one[0] < other[0] ? -1 : 1));
  }

  function section(output, title, rows) {
    if (!rows.length) return;
    output.append(element("h2", title + ": " + rows.length));
    const table = element("table");
    const head = table.createTHead().insertRow();
    ["", "Before", "After"].forEach((text, number) => head.append(element(number ? "th" : "td", text, number ? { scope: "col" } : {})));
    const body = table.createTBody();
    rows.forEach(([key, before, after]) => {
      const row = body.insertRow();
      row.append(element("th", key, { scope: "row" }), element("td", before || "–"), element("td", after || "–"));
    });
    const box = element("div", "", { class: "table", tabindex: "0", role: "region", "aria-label": title });
    box.append(table);
    output.append(box);
  }

  function draw() {
    const [before, after] = ["before", "after"].map((name) => window.RELEASES[compare.elements[name].value]);
    if (!before || !after) return;
    const output = document.querySelector("#differences");
    output.replaceChildren();
    const architectures = Object.keys(after.packages).filter((one) => one in before.packages);
    let count = 0;
    architectures.forEach((one) => {
      const rows = differences(before.packages[one], after.packages[one]);
      count += rows.length;
      section(output, "Packages " + one, rows);
    });
    const bills = [before, after].map((one) => Object.keys(one.components));
    bills[1].filter((one) => bills[0].includes(one)).forEach((one) => {
      const rows = differences(before.components[one], after.components[one]);
      count += rows.length;
      section(output, "Other components " + one, rows);
    });
    [["Base images", "base"], ["Inputs", "inputs"], ["Variables", "variables"]].forEach(([title, key]) => {
      const rows = differences(before[key], after[key]);
      count += rows.length;
      section(output, title, rows);
    });
    if (!count) output.append(element("p", "Nothing differs."));
    [before, after].filter((one, number) => !bills[number].length).forEach((one) => output.append(element("p",
      "This site has no bill of materials of " + one.version + ", so what pip, npm, Go and Java installed is not compared.", { class: "quiet" })));
    if (status) status.textContent = count + " differences";
    history.replaceState(null, "", "#" + before.version + ".." + after.version);
  }

  function choose() {
    ["before", "after"].forEach((name) => {
      const version = compare.elements[name].value;
      window.RELEASES[version] ? draw() : load("data/" + version + ".js", draw);
    });
  }

  if (compare) {
    const wanted = decodeURIComponent(location.hash.slice(1)).split("..");
    ["before", "after"].forEach((name, number) => {
      const select = compare.elements[name];
      if ([...select.options].some((option) => option.value === wanted[number])) select.value = wanted[number];
      select.addEventListener("change", choose);
    });
    choose();
  }
})();
