/** More statements than these are sent without a name; the program has some fifty. */
const most = 200
const names = new Map<string, string>()

/**
 * The name under which a statement is prepared once in each connection, so that Postgres parses and plans it once. By
 * its text, which must not carry values: a server keeps prepared statements as long as the connection lives.
 */
export const preparedName = (text: string): string | undefined => {
  const known = names.get(text)
  if (known !== undefined || names.size >= most) return known
  const name = `s${names.size}`
  names.set(text, name)
  return name
}
