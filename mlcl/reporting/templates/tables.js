"use strict";
(function () {
  function key(row, column) {
    const value = row.cells[column].dataset.value;
    if (value === undefined) return null;
    return isNaN(Number(value)) ? value.toLowerCase() : Number(value);
  }
  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (a < b ? -1 : a > b ? 1 : 0);
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const heads = Array.from(table.tHead.rows[table.tHead.rows.length - 1].cells);
    const rows = Array.from(body.rows);
    function rules(sorted) {
      let before = null;
      for (const row of body.rows) {
        row.classList.toggle("rule", !sorted && before !== null && before !== row.dataset.block);
        before = row.dataset.block;
      }
    }
    heads.forEach(function (head, column) {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", function () {
        const numeric = rows.some(function (row) { return typeof key(row, column) === "number"; });
        const next = { none: numeric ? "descending" : "ascending", descending: numeric ? "ascending" : "none", ascending: numeric ? "none" : "descending" };
        const order = next[head.getAttribute("aria-sort")];
        heads.forEach(function (other) { other.setAttribute("aria-sort", "none"); });
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const sorted = order === "none" ? rows : rows.slice().sort(function (a, b) { return compare(key(a, column), key(b, column), sign); });
        body.append.apply(body, sorted);
        rules(order !== "none");
      });
    });
    rules(false);
    const filter = document.querySelector('input[data-filter="' + table.dataset.name + '"]');
    const count = document.querySelector('[data-count="' + table.dataset.name + '"]');
    filter.addEventListener("input", function () {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every(function (word) { return text.includes(word); });
        shown += !row.hidden;
      }
      count.textContent = words.length ? shown + " of " + rows.length + " rows" : "";
    });
  }
}());
