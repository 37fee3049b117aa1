// Runs before the page is drawn, so that it never flashes in the wrong colours.
(() => {
  let kept = null;
  try {
    kept = localStorage.getItem('theme');
  } catch {
    // A browser may refuse storage; then the system decides each time.
  }
  const dark = kept ? kept === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
})();
