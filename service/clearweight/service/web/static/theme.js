// Light or dark: the system's choice until a person chooses, then that.

const KEY = "clearweight-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

export const theme = () => (document.documentElement.dataset.theme === "dark" ? "dark" : "light");

const wanted = () => localStorage.getItem(KEY) ?? (system.matches ? "dark" : "light");

// Apply the theme now and whenever it changes; `changed` redraws what is drawn by hand.
export function followTheme(changed) {
  const apply = () => {
    document.documentElement.dataset.theme = wanted();
    changed();
  };
  system.addEventListener("change", apply);
  apply();
  return () => {
    localStorage.setItem(KEY, theme() === "dark" ? "light" : "dark");
    apply();
  };
}
