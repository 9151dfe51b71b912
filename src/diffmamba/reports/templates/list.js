// The list of all runs: `runs.js` hands its rows to `showRuns`. One page of it is in the document at a time.
"use strict";

function showRuns({columns, rows}) {
  const PAGE = 100;
  const [form, words, count, table, pages] = ["search", "words", "count", "list", "pages"].map((id) => document.getElementById(id));
  // a cell is a text, or a text and the number to sort by
  const text = (cell) => (Array.isArray(cell) ? cell[0] : cell);
  const texts = rows.map((row) => row.map(text).join(" ").toLowerCase());
  const compare = new Intl.Collator(undefined, {numeric: true}).compare;
  let chosen = rows.map((_, at) => at), sorted = -1, down = false, page = 0;

  function choose() {
    const asked = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    chosen = rows.map((_, at) => at).filter((at) => asked.every((word) => texts[at].includes(word)));
    if (sorted >= 0) sort();
    page = 0;
  }

  // Rows without a value come last either way.
  function sort() {
    const sign = down ? -1 : 1;
    const key = rows.map((row) => row[sorted]);
    const isEmpty = (cell) => ["", "–", "nan", "NaN"].includes(text(cell));
    chosen.sort((a, b) => {
      const [one, other] = [key[a], key[b]];
      if (isEmpty(one) || isEmpty(other)) return isEmpty(one) - isEmpty(other) || a - b;
      if (Array.isArray(one) && Array.isArray(other)) return sign * (one[1] - other[1]) || a - b;
      return sign * compare(text(one), text(other)) || a - b;
    });
  }

  function make(tag, options = {}, ...children) {
    const made = Object.assign(document.createElement(tag), options);
    made.append(...children);
    return made;
  }

  function head() {
    const line = make("tr");
    columns.forEach((column, at) => {
      const button = make("button", {type: "button", textContent: column.header});
      button.addEventListener("click", () => {
        down = sorted === at && !down;
        sorted = at;
        sort();
        page = 0;
        show();
      });
      line.append(make("th", {scope: "col", className: column.word ? "word" : ""}, button));
    });
    return make("thead", {}, line);
  }

  function row(at) {
    const line = make("tr");
    rows[at].forEach((cell, index) => {
      const word = columns[index].word ? "word" : "";
      if (index) {
        const status = index === 1 ? text(cell).split(/[ :]/)[0] : "";
        line.append(make("td", {className: [word, status].filter(Boolean).join(" "), textContent: text(cell)}));
      } else {
        const link = make("a", {href: `runs/${encodeURIComponent(text(cell))}.html`, textContent: text(cell)});
        line.append(make("th", {scope: "row", className: word}, link));
      }
    });
    return line;
  }

  function show() {
    table.tHead.querySelectorAll("th").forEach((one, at) => {
      if (at === sorted) one.setAttribute("aria-sort", down ? "descending" : "ascending");
      else one.removeAttribute("aria-sort");
    });
    const first = page * PAGE, last = Math.min(chosen.length, first + PAGE);
    table.tBodies[0].replaceChildren(...chosen.slice(first, last).map(row));
    const of = chosen.length === rows.length ? "" : ` of ${rows.length.toLocaleString("en")}`;
    count.textContent = `${chosen.length.toLocaleString("en")}${of} run${of || chosen.length !== 1 ? "s" : ""}`;
    const turn = (label, to, able) => {
      const button = make("button", {type: "button", textContent: label, disabled: !able});
      button.addEventListener("click", () => {
        page = to;
        show();
        table.scrollIntoView();
      });
      return button;
    };
    const where = make("span", {textContent: `${first + 1} to ${last}`});
    const more = chosen.length > PAGE;
    pages.replaceChildren(...(more ? [turn("Earlier in the list", page - 1, page > 0), where, turn("Further", page + 1, last < chosen.length)] : []));
  }

  function follow() {
    const asked = new URLSearchParams(location.hash.slice(1)).get("find");
    if (asked === null) return;
    words.value = asked;
    choose();
    show();
    document.getElementById("runs").scrollIntoView();
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  words.addEventListener("input", () => {
    choose();
    show();
  });
  addEventListener("hashchange", follow);
  table.append(head(), make("tbody"));
  form.hidden = false;
  show();
  follow();
}
