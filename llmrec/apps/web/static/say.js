// The message box: Enter sends, Shift+Enter is a new line. What was said stands in the log at once.
const box = element.querySelector('textarea');
const send = () => {
  const text = box.value.trim();
  if (!text) return;
  box.value = '';
  const log = document.querySelector('#talk .log');
  if (log) {
    const said = document.createElement('p');
    said.className = 'user';
    said.textContent = text;
    const wait = document.createElement('p');
    wait.className = 'assistant wait';
    wait.textContent = '…';
    setTimeout(() => { wait.textContent = '… still at it: the first explanation loads a language model'; }, 2500);
    log.append(said, wait);
    log.scrollTop = log.scrollHeight;
  }
  trigger('act', window.llmrecSent({ do: 'say', text }));
};
box.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
});
element.querySelector('button').addEventListener('click', () => { send(); box.focus(); });
