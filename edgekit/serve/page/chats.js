// The dialog with the conversations that this browser keeps.

import { button, element } from "./elements.js";
import { deleteAllChats, deleteChat, listChats } from "./store.js";

const $ = (id) => document.getElementById(id);

// Shows the dialog. open is called with the id of a conversation that is chosen, gone when the current one was deleted.
export async function showChats({ stored, currentId, open, gone }) {
  const dialog = $("chats-dialog");
  const draw = async () => {
    const found = await listChats();
    $("chats-list").replaceChildren(...found.map((chat) => {
      const chosen = button("", "chat", () => { dialog.close(); open(chat.id); });
      chosen.append(element("span", "name", chat.title), element("span", "soft", new Date(chat.updated).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })));
      if (chat.id === currentId) chosen.ariaCurrent = "true";
      const remove = button("Delete", "small", async () => {
        await deleteChat(chat.id);
        if (chat.id === currentId) gone();
        await draw();
        dialog.querySelector(".close").focus(); // what was pressed is gone
      });
      remove.ariaLabel = `Delete: ${chat.title}`;
      return element("li", "", chosen, remove);
    }));
    const where = stored ? "Kept in this browser, nowhere else." : "This browser keeps nothing: these last until the page is closed.";
    $("chats-note").textContent = found.length ? where : "There are no conversations yet.";
    $("delete-all").hidden = !found.length;
  };
  $("delete-all").onclick = async () => {
    if (!confirm("Delete all conversations from this browser?")) return;
    await deleteAllChats();
    gone();
    await draw();
    dialog.querySelector(".close").focus();
  };
  await draw();
  dialog.showModal();
}
