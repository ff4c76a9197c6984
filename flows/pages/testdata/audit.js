// Looks over the page that is open for what people need who use a keyboard, a
// screen reader, or their eyes with less than full sight. Returns a list of
// complaints. The numbers are those of WCAG 2.2, level AA.
(() => {
  if (document.readyState !== "complete" || !document.querySelector("h1")) return ["not loaded"]; // between two pages
  const complaints = [];
  const complain = (element, text) => complaints.push(`${name(element)}: ${text}`);
  const name = (e) => `<${e.tagName.toLowerCase()}${e.id ? ` id=${e.id}` : ""}> ${JSON.stringify(e.textContent.trim().slice(0, 30))}`;
  const all = (selector) => [...document.querySelectorAll(selector)];
  const shown = (e) => e.checkVisibility({ checkVisibilityCSS: true }) && !e.closest(".unseen");

  // Colours, mixed as they are seen.
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number);
    return { r, g, b, a };
  };
  const over = (front, back) => ({
    r: front.r * front.a + back.r * (1 - front.a),
    g: front.g * front.a + back.g * (1 - front.a),
    b: front.b * front.a + back.b * (1 - front.a),
    a: 1,
  });
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor));
    return layers.reverse().reduce((back, front) => over(front, back), { r: 255, g: 255, b: 255, a: 1 });
  };
  const luminance = (c) => {
    const [r, g, b] = [c.r, c.g, c.b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (light + 0.05) / (dark + 0.05);
  };
  const enough = (element, what, colour, back, least) => {
    const ratio = contrast(over(parse(colour), back), back);
    if (ratio < least) complain(element, `${what} has a contrast of ${ratio.toFixed(2)}, want ${least}`);
  };

  // 3.1.1, 2.4.2, 1.3.1, 2.4.6: the document
  if (document.documentElement.lang !== "en") complaints.push("the page does not say its language");
  if (!document.title.trim()) complaints.push("the page has no title");
  for (const [selector, want] of [["h1", 1], ["main", 1], ["header", 1], ["footer", 1]]) {
    if (all(selector).length !== want) complaints.push(`${all(selector).length} ${selector}, want ${want}`);
  }
  let level = 0;
  for (const h of all("h1, h2, h3, h4")) {
    const next = Number(h.tagName[1]);
    if (next > level + 1) complain(h, `the heading skips a level after ${level}`);
    level = next;
  }
  if (!document.querySelector('meta[name="viewport"]')?.content.includes("width=device-width")) complaints.push("no viewport");
  if (/maximum-scale|user-scalable/.test(document.querySelector('meta[name="viewport"]').content)) complaints.push("the page cannot be enlarged");
  const ids = all("[id]").map((e) => e.id);
  if (new Set(ids).size !== ids.length) complaints.push(`ids are not unique: ${ids}`);

  // 1.3.1, 3.3.2, 4.1.2: fields
  for (const e of all("input:not([type=hidden]), textarea, select")) {
    if (!e.labels.length || !e.labels[0].textContent.trim()) complain(e, "has no label");
    if (e.placeholder) complain(e, "has a placeholder in place of a hint");
    if (e.hasAttribute("aria-invalid") && !/-error/.test(e.getAttribute("aria-describedby"))) complain(e, "is invalid for no stated reason");
    const back = ground(e.parentElement);
    if (!e.readOnly) enough(e, "the border", getComputedStyle(e).borderTopColor, back, 3);
  }
  for (const e of all("[aria-describedby], [aria-labelledby]")) {
    for (const id of `${e.getAttribute("aria-describedby") ?? ""} ${e.getAttribute("aria-labelledby") ?? ""}`.trim().split(/\s+/)) {
      if (!document.getElementById(id)?.textContent.trim()) complain(e, `is described by ${id}, which says nothing`);
    }
  }
  const wrong = document.querySelector("[aria-invalid=true]");
  if (wrong && document.activeElement !== wrong) complain(wrong, "is the first wrong field and has no focus");
  if (wrong && !document.title.startsWith("Error: ")) complaints.push("the title does not tell of the error");

  // 1.1.1, 2.1.1, 2.4.3, 2.5.8: what is seen and pressed
  for (const e of all("svg, img")) if (e.getAttribute("aria-hidden") !== "true" && !e.getAttribute("alt")) complain(e, "a picture without words");
  for (const e of all("[tabindex]")) if (e.tabIndex > 0) complain(e, "jumps the order of the keyboard");
  for (const e of all("a[href], button")) {
    if (!e.textContent.trim()) complain(e, "has no name");
    const box = e.getBoundingClientRect();
    if (!e.closest("p, li") && (box.height < 24 || box.width < 24)) complain(e, `is ${box.width}×${box.height}, too small to hit`);
    if (e.target === "_blank" && !e.textContent.includes("new tab")) complain(e, "opens a new tab without a word");
    if (e.target === "_blank" && !e.relList.contains("noopener")) complain(e, "gives its window away");
    if (e.matches("button.quiet")) enough(e, "the border", getComputedStyle(e).borderTopColor, ground(e.parentElement), 3);
  }

  // 1.4.3: text
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const seen = new Set();
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement;
    if (texts.currentNode.textContent.trim() && shown(e)) seen.add(e);
  }
  for (const e of [...seen, ...all("input:not([type=hidden]), textarea")]) {
    const style = getComputedStyle(e);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    enough(e, `text of ${size}px`, style.color, ground(e), large ? 3 : 4.5);
    if (size < 12) complain(e, `text of ${size}px`);
  }
  // 1.4.11: marks
  for (const e of all(".mark")) enough(e, "the mark", getComputedStyle(e).stroke, ground(e.parentElement), 3);
  // 2.3.3, 2.2.2: nothing moves for those who asked for that
  for (const e of all("*")) if (getComputedStyle(e).animationName !== "none") complain(e, "moves");
  // Nothing that a policy without scripts would have to forbid.
  for (const e of all("*")) {
    if (e.tagName === "SCRIPT" || e.hasAttribute("style") || [...e.attributes].some((a) => a.name.startsWith("on"))) complain(e, "a script or a style of its own");
    if (e.hasAttribute("src") || (e.tagName === "LINK" && e.href)) complain(e, "loads something");
  }
  if (seen.size < 4) complaints.push(`only ${seen.size} texts were looked at`);
  return complaints;
})()
