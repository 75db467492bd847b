// Every panel: what is pressed or set is sent as an action; focus and open parts outlive the new content.
const kept = { key: null, open: matchMedia('(max-width: 700px)').matches ? { filters: false, 'so far': false } : {} };
const act = (detail, from) => {
  kept.key = from ? from.dataset.key : null;
  document.body.classList.add('busy');
  trigger('act', detail);
};
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-do]');
  if (button && !button.disabled) act({ ...button.dataset }, button);
});
element.addEventListener('input', (event) => {
  const shown = event.target.parentElement.querySelector('output');
  if (shown) shown.textContent = event.target.value;
});
element.addEventListener('change', (event) => {
  const field = event.target;
  if (field.dataset.set) act({ do: field.dataset.set, value: field.value }, field);
  if (field.dataset.side) {
    const both = field.closest('[data-column]');
    const side = (name) => both.querySelector(`[data-side=${name}]`).value;
    act({ do: 'bounds', column: both.dataset.column, low: side('low'), high: side('high') }, field);
  }
});
element.addEventListener('toggle', (event) => { kept.open[event.target.dataset.key] = event.target.open; }, true);
watch('value', () => {
  element.querySelectorAll('details[data-key]').forEach((part) => {
    if (part.dataset.key in kept.open) part.open = kept.open[part.dataset.key];
  });
  const log = element.querySelector('.log');
  if (log) log.scrollTop = log.scrollHeight;
  if (kept.key === null) return;
  const found = [...element.querySelectorAll('[data-key]')].find((one) => one.dataset.key === kept.key && !one.disabled)
    || element.querySelector('[tabindex="-1"]') || element.querySelector('button:not([disabled])');
  kept.key = null;
  if (found) found.focus({ preventScroll: true });
});
