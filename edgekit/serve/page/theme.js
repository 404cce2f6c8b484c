// Runs before the page is drawn, so that it never flashes in the other colours.

try {
  document.documentElement.dataset.theme = localStorage.getItem("theme") ?? "";
} catch {
  // This browser lets the page keep nothing.
}
