// Filters of the index: a verdict and a topic, each one or all. Without this script every card is shown.
(() => {
  "use strict";
  const cards = [...document.querySelectorAll(".claims > li")];
  const chosen = { verdict: "", topic: "" };
  const count = document.getElementById("count");
  const apply = () => {
    let shown = 0;
    for (const card of cards) {
      const fits = Object.entries(chosen).every(([kind, value]) => !value || card.dataset[kind] === value);
      card.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    count.textContent = `${shown} of ${cards.length}`;
  };
  document.querySelector(".filters").hidden = false;
  for (const button of document.querySelectorAll(".filters button")) {
    button.addEventListener("click", () => {
      const { kind, value } = button.dataset;
      chosen[kind] = value;
      for (const other of document.querySelectorAll(`.filters button[data-kind="${kind}"]`)) {
        other.setAttribute("aria-pressed", other === button);
      }
      apply();
    });
  }
  apply();
})();
