/** What a session is called: its name, where a person gave it one, else its project. */
export function titleOf(session: { name?: string; project: string }): string {
  return session.name === undefined || session.name === "" ? session.project : session.name;
}
