// Before the first paint: the theme that the reader chose last time, if any.
try {
  const chosen = localStorage.getItem("thalweg-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch { document.documentElement.dataset.storage = "none"; }
