// Search as you type: the server finds titles, this shows them as text and sends the one that is picked.
const box = element.querySelector('input');
const list = element.querySelector('ul');
const said = element.querySelector('[role=status]');
let found = [], at = -1, asked = 0, timer = 0;
const close = () => { list.hidden = true; at = -1; box.setAttribute('aria-expanded', 'false'); box.removeAttribute('aria-activedescendant'); };
const mark = (place) => {
  at = place;
  [...list.children].forEach((row, one) => row.setAttribute('aria-selected', one === at));
  if (at < 0) return;
  box.setAttribute('aria-activedescendant', list.children[at].id);
  list.children[at].scrollIntoView({ block: 'nearest' });
};
const pick = (place) => {
  const one = found[place];
  if (!one) return;
  box.value = '';
  asked += 1;
  close();
  trigger('act', window.llmrecSent({ do: 'like', id: one.id }));
};
const show = () => {
  list.replaceChildren(...found.map((one, place) => {
    const row = document.createElement('li');
    const image = document.createElement('img');
    const words = document.createElement('span');
    const more = document.createElement('small');
    row.id = `found-${place}`;
    row.setAttribute('role', 'option');
    image.src = one.picture; image.alt = ''; image.width = 32; image.height = 48;
    words.textContent = one.title;
    more.textContent = one.meta;
    words.append(more);
    row.append(image, words);
    row.addEventListener('mousedown', (event) => { event.preventDefault(); pick(place); });
    return row;
  }));
  list.hidden = found.length === 0;
  box.setAttribute('aria-expanded', String(found.length > 0));
  said.textContent = found.length ? `${found.length} titles found` : (box.value.trim() ? 'No title found' : '');
  mark(found.length ? 0 : -1);
};
const ask = async () => {
  const mine = (asked += 1);
  const text = box.value.trim();
  const answer = text ? await server.find(text) : [];
  if (mine !== asked) return;
  found = answer;
  show();
};
box.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(ask, 90); });
box.addEventListener('blur', close);
box.addEventListener('keydown', async (event) => {
  if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
    event.preventDefault();
    if (!list.hidden) mark((at + (event.key === 'ArrowDown' ? 1 : found.length - 1)) % found.length);
  } else if (event.key === 'Escape') {
    close();
  } else if (event.key === 'Enter') {
    event.preventDefault();
    clearTimeout(timer);
    if (list.hidden) await ask();
    pick(Math.max(at, 0));
  }
});
