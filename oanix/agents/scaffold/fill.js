// Fills the places of a template: {{title}}, {{description}}, {{slug}}, and, written so that the
// text stays text where it stands, {{html:title}}, {{py:title}}.

const WRITTEN = {
  '': (text) => text,
  html: (text) => text.replace(/[&<>"']/g, (one) => `&#${one.charCodeAt(0)};`),
  py: (text) => text.replace(/[\\"]/g, (one) => `\\${one}`),
};

export function fill(text, values) {
  return text.replace(/\{\{(?:(html|py):)?(title|description|slug)\}\}/g,
    (_, how, key) => WRITTEN[how ?? ''](values[key]));
}

// Say what fills the places: what was asked, else what follows from the folder's name.
export function words(input, template, directory) {
  const folder = directory === '.' ? template.title : directory.slice(directory.lastIndexOf('/') + 1);
  const title = line(input.title ?? spoken(folder));
  return {
    title,
    description: line(input.description ?? template.about),
    slug: slug(title) || template.name,
  };
}

function line(text) {
  return text.replace(/[\x00-\x1f\x7f\u2028\u2029]+/g, ' ').trim().slice(0, 300);
}

function spoken(folder) {
  const text = folder.replace(/[-_]+/g, ' ').trim() || folder;
  return text[0].toUpperCase() + text.slice(1);
}

function slug(title) {
  return title.normalize('NFKD').toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 60);
}
