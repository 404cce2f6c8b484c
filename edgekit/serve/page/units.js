// Numbers as a person reads them.

export function formatSeconds(seconds) {
  if (seconds < 0.1) return `${Math.round(seconds * 1e3)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60), rest = Math.round(seconds % 60);
  return rest === 60 ? `${minutes + 1} min` : rest ? `${minutes} min ${rest} s` : `${minutes} min`;
}

export function formatBytes(bytes) {
  return bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

export function plural(count, word) {
  return `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
}
