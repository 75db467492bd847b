// The page is busy until the cards answer the latest action: actions are numbered, and the cards say which one they follow.
() => {
  let sent = 0;
  window.llmrecSent = (detail) => {
    sent += 1;
    document.body.classList.add('busy');
    return { ...detail, number: String(sent) };
  };
  window.llmrecDone = (number) => { if (Number(number) >= sent) document.body.classList.remove('busy'); };
}
