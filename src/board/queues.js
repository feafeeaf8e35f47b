// The board's table of queues has room for one row, however many queues there are: its program takes them for one page
// of one. This adds the others, made after the first.
(() => {
    const ADDED = "data-added";

    const made = (classes, text) => {
        const element = document.createElement("span");
        element.className = classes;
        element.textContent = text;
        return element;
    };

    const row = (first, { name, stats, activity }) => {
        const row = first.cloneNode(true);
        row.setAttribute(ADDED, name);
        for (const link of row.querySelectorAll("a[href^='/queues/']")) {
            link.setAttribute("href", `/queues/${encodeURIComponent(name)}`);
        }
        const [title, numbers, days] = row.querySelectorAll("td");
        title.querySelector("span").textContent = name;
        const shares = stats.filter((stat) => stat.stat_type === "Percentage").map((stat) => {
            const share = document.createElement("div");
            share.className = "flex items-center";
            share.append(made("font-medium", stat.value), made("text-xs text-gray-500 ms-1", stat.title));
            return share;
        });
        numbers.querySelector("span").replaceChildren(...shares);
        const most = Math.max(...activity, 0);
        [...days.querySelectorAll("div[title]")].forEach((bar, day) => {
            bar.style.height = `${most > 0 ? (activity[day] / most) * 80 + 20 : 20}%`;
            bar.title = activity[day];
        });
        return row;
    };

    let asking = false;
    const complete = async () => {
        if (asking || location.pathname !== "/queues") return;
        const body = document.querySelector("table tbody");
        const first = body?.querySelector("tr:has(a[href^='/queues/'])");
        if (!first || body.querySelector(`tr[${ADDED}]`)) return;
        asking = true;
        try {
            const answer = await fetch("/api/v1/queues");
            if (!answer.ok) return;
            const shown = first.querySelector("td").textContent.trim();
            const queues = (await answer.json()).filter(({ name }) => name !== shown);
            body.append(...queues.map((queue) => row(first, queue)));
        } finally {
            asking = false;
        }
    };
    new MutationObserver(complete).observe(document, { childList: true, subtree: true });
})();
