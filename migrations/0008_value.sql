-- Why: a date, an amount of money, a percentage or a quantity is more than its words. "13 March 1963" and "March 13,
-- 1963" are one day, within a document and across them, and whoever reads the graph can sort and compare it.

alter table mention add column value text;
comment on column mention.value is
    'The normal form of a value, null for names: dates in EDTF, amounts as `USD 5000000`, `5.2%`, `12 km`.';

alter table entity add column value text;
comment on column entity.value is
    'The value that all its mentions have, null for names; what the resolution compares instead of the name.';
