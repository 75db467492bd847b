// Every panel: what is pressed or set is sent as an action; focus and open parts outlive the new content.
const kept = { key: null, open: matchMedia('(max-width: 700px)').matches ? { filters: false, 'so far': false } : {} };
const act = (detail) => trigger('act', window.llmrecSent(detail));
document.addEventListener('focusin', (event) => {
  kept.key = element.contains(event.target) ? event.target.dataset.key || null : null;
});
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-do]');
  if (button && !button.disabled) act({ ...button.dataset });
});
element.addEventListener('input', (event) => {
  const shown = event.target.parentElement.querySelector('output');
  if (shown) shown.textContent = event.target.value;
});
element.addEventListener('change', (event) => {
  const field = event.target;
  if (field.dataset.set) act({ do: field.dataset.set, value: field.value });
  if (field.dataset.side) {
    const both = field.closest('[data-column]');
    const side = (name) => both.querySelector(`[data-side=${name}]`).value;
    act({ do: 'bounds', column: both.dataset.column, low: side('low'), high: side('high') });
  }
});
element.addEventListener('toggle', (event) => { kept.open[event.target.dataset.key] = event.target.open; }, true);
watch('value', () => {
  const done = element.querySelector('[data-done]');
  if (done) window.llmrecDone(done.dataset.done);
  element.querySelectorAll('details[data-key]').forEach((part) => {
    if (part.dataset.key in kept.open) part.open = kept.open[part.dataset.key];
  });
  const log = element.querySelector('.log');
  if (log) log.scrollTop = log.scrollHeight;
  if (kept.key === null || document.activeElement !== document.body) return;
  const found = [...element.querySelectorAll('[data-key]')].find((one) => one.dataset.key === kept.key && !one.disabled)
    || element.querySelector('[tabindex="-1"]') || element.querySelector('button:not([disabled])');
  if (found) found.focus({ preventScroll: true });
});
