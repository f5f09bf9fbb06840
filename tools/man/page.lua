--[[ What pandoc makes of a page's source (docs/man) before it writes the page: `make man`.

An empty division of the source stands for a part of another document, so that each thing is said in one place:

    ::: {from="docs/command-line.md"}
    :::                                     all below the document's title
    ::: {from="README" section="Getting help"}
    :::                                     what stands below that heading; with .opening only up to the next heading

With below=N the headings in it are of level N + 1 and deeper, where it stands below one of level N.

Tables become lists of their first columns, which fit a page of any width. Documents' names in text become those of the
pages and files that a reader of the package has. ]]

local PAGES = { ["docs/command-line.md"] = "pvisor-command-line(5)" }

-- The blocks of a document below the heading that is named, or below its first, and that heading's level.
local function section_of(document, name, opening)
    local blocks, level = pandoc.Blocks{}, nil
    for _, block in ipairs(document.blocks) do
        if block.t == "Header" then
            if level and (opening or block.level <= level) then
                break
            elseif not level and (not name or pandoc.utils.stringify(block) == name) then
                level = block.level
                goto next
            end
        end
        if level then
            blocks:insert(block)
        end
        ::next::
    end
    if #blocks == 0 then
        error("no section " .. (name or "at all"))
    end
    return blocks, level
end

local function raised(blocks, levels)
    return blocks:walk{ Header = function(h) h.level = h.level - levels; return h end }
end

local function include(div)
    local from = div.attributes.from
    if not from then
        return nil
    end
    local file = assert(io.open(from))
    local document = pandoc.read(file:read("a"), "gfm")
    file:close()
    local blocks, level = section_of(document, div.attributes.section, div.classes:includes("opening"))
    return raised(blocks, level - (tonumber(div.attributes.below) or 0))
end

local function cells(row)
    return row.cells:map(function(cell) return pandoc.utils.blocks_to_inlines(cell.contents) end)
end

-- A list of what the first column has; below each the second column, and of others the heading and what stands there.
local function list_of(t)
    local headings = cells(t.head.rows[1]):map(pandoc.utils.stringify)
    local items = {}
    for _, row in ipairs(t.bodies[1].body) do
        local columns = cells(row)
        local text = columns[2]:clone()
        for i = 3, #columns do
            text:insert(pandoc.Str(". " .. headings[i]:gsub("^%l", string.upper) .. ": "))
            text:extend(columns[i])
        end
        text:insert(pandoc.Str("."))
        table.insert(items, { columns[1], { { pandoc.Plain(text) } } })
    end
    return pandoc.DefinitionList(items)
end

local function named(text)
    text = text:gsub("%f[%w]docs/[%w-]+%.md", PAGES)
    return (text:gsub("%f[%w]docs/([%w-]+%.md)", "/usr/share/doc/pvisor/%1"))
end

local function renamed(element)
    element.text = named(element.text)
    return element
end

local function heading(h)
    if h.level == 1 then
        h.content = h.content:walk{
            Str = function(s) s.text = s.text:upper(); return s end,
            Code = function(c) return pandoc.Str(c.text:upper()) end,
        }
    end
    return h
end

return {
    { Div = include },
    { Table = list_of, Header = heading, Str = renamed, Code = renamed },
}
