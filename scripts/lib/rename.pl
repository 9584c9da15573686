#!/usr/bin/perl
# The part of scripts/rename.sh that reads and writes files; its head says what is done and by which rules. Modules of
# Perl's core only. Run in the root of the tree:
#
#   rename.pl names                                     the present name and title, a line each
#   rename.pl apply <name> <title> <description> <repository>
#                                                       an empty description or repository stays as it is
#
# First all is done in memory and looked at; only then is anything written.
use strict;
use warnings;
use File::Basename qw(dirname);
use File::Path qw(make_path);

# History and the licence say whose work it was; they keep the old name.
my $KEPT = qr{^(?:CHANGELOG\.md|LICENSE-[^/]*)$};

my $manifest = read_file('Cargo.toml');
my ($old_name) = $manifest =~ /^name = "([^"]+)"/m or die "no name in Cargo.toml\n";
my ($old_title) = $manifest =~ /^metadata\.title = "([^"]+)"/m
  or die "Cargo.toml has no `metadata.title = \"…\"` in [package]: the name as prose writes it\n";

if ($ARGV[0] eq 'names') {
    print "$old_name\n$old_title\n";
    exit 0;
}
my (undef, $name, $title, $description, $repository) = @ARGV;
my (%old, %new);
%old = forms($old_name, $old_title);
%new = forms($name,     $title);
my $old_words = words(\%old);
my $new_words = words(\%new);

my @files = grep { !/$KEPT/ && -f $_ && !-l $_ } split /\0/, `git ls-files -z`;
my (%text, %moved, @problems, %left);
for my $path (@files) {
    my $before = read_file($path);
    my $target = renamed($path);
    $moved{$path} = $target if $target ne $path;
    if (index($before, "\0") >= 0) {
        push @problems, "$path: a binary file has the name in it, and may hold its length or a checksum: make it anew without"
          if $before =~ $old_words;
        next;
    }
    find_ambiguous($path, $before);
    find_left($path, $before);
    my $after = renamed($before);
    $after = sorted_lock($after) if $path =~ m{(?:^|/)Cargo\.lock$};
    $text{$path} = $after;
}
set_title();
set_description() if length $description;
set_repository()  if length $repository;
if (@problems) {
    my $more = @problems > 12 ? @problems - 12 : 0;
    splice @problems, 12;
    print STDERR map { "  $_\n" } @problems;
    print STDERR "  … and $more more\n" if $more;
    exit 1;
}

my $changed = 0;
for my $path (sort keys %text) {
    next if $text{$path} eq read_file($path);
    write_file($path, $text{$path});
    $changed++;
}
for my $path (sort keys %moved) {
    make_path(dirname($moved{$path}));
    rename $path, $moved{$path} or die "$path: $!\n";
    # Directories that are empty now; rmdir leaves the others alone.
    for (my $folder = dirname($path); $folder ne '.'; $folder = dirname($folder)) { rmdir $folder or last }
}
my $moved = keys %moved;
print "$changed files changed, $moved moved\n";
for my $word (sort keys %left) {
    print "left alone, another word: $word ($left{$word})\n";
}

# --- Words ---------------------------------------------------------------------------------------------------------

sub forms {
    my ($kebab, $prose) = @_;
    (my $snake = $kebab) =~ tr/-/_/;
    return (kebab => $kebab, snake => $snake, upper => uc $snake, title => $prose);
}

# One of the forms as a word of its own: `_`, `-`, `/` and the like may stand beside it, letters and digits may not,
# but for the letter of an escape such as \n.
sub words {
    my %form = @_ == 1 ? %{ $_[0] } : @_;
    my %seen;
    my $any = join '|', map { quotemeta } sort { length $b <=> length $a || $a cmp $b } grep { !$seen{$_}++ } values %form;
    return qr/(?:(?<![A-Za-z0-9])|(?<=\\[bnrt]))($any)(?![A-Za-z0-9])/;
}

sub renamed {
    my ($text) = @_;
    $text =~ s/$old_words/in_form($1, $text, $-[1], $+[1])/ge;
    return $text;
}

sub in_form {
    my ($found, $text, $start, $end) = @_;
    return $new{title} if $found eq $old{title};
    return $new{upper} if $found eq $old{upper};
    my $form = $old{kebab} ne $old{snake} ? ($found eq $old{snake} ? 'snake' : 'kebab') : undef;
    if (!$form) {
        my $from = $start > 120 ? $start - 120 : 0;
        $form = wants_snake(substr($text, $from, $start - $from), substr($text, $end, 16)) ? 'snake' : 'kebab';
    }
    return $new{$form};
}

# Where a name of one word has to be followed by the form with underscores; see the head of rename.sh.
sub wants_snake {
    my ($before, $behind) = @_;
    return 1 if $behind =~ /^(?:_|::)/;
    return 1 if $behind =~ /^=(?:trace|debug|info|warn|error|off)\b/;
    return 1 if $behind =~ /^ = host=/;
    return 1 if $before =~ m{(?:postgres|postgresql|mysql)://[^/\s"']*/$};
    return 1 if $before =~ m{\bpostgres:5432/$};
    return $before =~ m{(?i:database|dbname|datname|database_name|db\.namespace)(?:: &str)?[^A-Za-z0-9/\n]{1,5}$};
}

# --- What speaks against it ------------------------------------------------------------------------------------------

# Without the old name's words the new one must not be there: nobody could tell which of them mean the project.
sub find_ambiguous {
    my ($path, $text) = @_;
    my $number = 0;
    for my $line ($text =~ $new_words ? split /\n/, $text : ()) {
        $number++;
        next unless $line =~ $new_words;
        (my $rest = $line) =~ s/$old_words/\0/g;
        push @problems, "$path:$number: `$1` is a word here already" if $rest =~ $new_words;
    }
    push @problems, "$path: the file's name has `$1` in it already"
      if (my $rest = $path =~ s/$old_words/\0/gr) =~ $new_words;
}

# Words that only contain the old name are others: shown, so that a person can look.
sub find_left {
    my ($path, $text) = @_;
    $text =~ s/$old_words/\0/g;
    while ($text =~ /([A-Za-z0-9]*\Q$old{kebab}\E[A-Za-z0-9]*)/gi) { $left{$1} = $path }
}

# --- What is not just a word -----------------------------------------------------------------------------------------

# Packages stand in the order of their names, and so do a package's dependencies. Cargo takes another order,
# and then writes its own at the next change: a diff that nobody meant.
sub sorted_lock {
    my ($lock) = @_;
    my ($head, @packages) = split /^(?=\[\[package\]\]$)/m, $lock;
    s/\s*\z/\n/ for @packages;
    my $ours = qr/^name = "\Q$name\E(?:-[a-z-]+)?"$/m;
    my @own = grep { /$ours/ && !/^source = /m } @packages;
    my @others = grep { !(/$ours/ && !/^source = /m) } @packages;
    for my $package (@own) {
        $package =~ s{^(dependencies = \[\n)(.*?)^\]}{$1 . join('', sort { dependency($a) cmp dependency($b) } split /^/m, $2) . ']'}mse;
        my ($wanted) = $package =~ /^name = "([^"]+)"/m;
        my $at = 0;
        $at++ while $at < @others && ($others[$at] =~ /^name = "([^"]+)"/m)[0] lt $wanted;
        splice @others, $at, 0, $package;
    }
    return $head . join "\n", @others;
}

sub dependency { return $_[0] =~ /"([^"]+)"/ ? $1 : $_[0] }

sub set_title {
    $text{'Cargo.toml'} =~ s/^(metadata\.title = ")[^"]*/$1$title/m;
}

# Where the package, the image and the README say what it is.
sub set_description {
    my ($before) = $text{'Cargo.toml'} =~ /^description = "([^"]*)"/m or die "no description in Cargo.toml\n";
    $text{'Cargo.toml'} =~ s/^(description = ")[^"]*/$1$description/m;
    $text{'deploy/Dockerfile'} =~ s/(image\.description=")[^"]*/$1$description/;
    $text{'README.md'} =~ s/^\Q$before\E\.$/$description./m;
}

# The two addresses that stand for the user's own, and the registry where it follows from the address.
sub set_repository {
    my ($before) = $text{'Cargo.toml'} =~ /^repository = "([^"]*)"/m or die "no repository in Cargo.toml\n";
    my %to = ($before => $repository, "https://github.com/example/$name" => $repository);
    my $registry = registry($repository);
    if (defined $registry) {
        for my $known ('ghcr.io/example/' . $name, registry($before)) { $to{$known} = $registry if defined $known }
    }
    my $any = join '|', map { quotemeta } sort { length $b <=> length $a } keys %to;
    for my $path (keys %text) { $text{$path} =~ s{($any)(?![A-Za-z0-9_-])}{$to{$1}}g }
}

# A release pushes to the repository's own name, and the manifests need an image that ends in the project's.
sub registry {
    my ($address) = @_;
    return $address =~ m{^https://github\.com/([^/]+)/\Q$name\E$} ? 'ghcr.io/' . lc($1) . "/$name" : undef;
}

# --- Files -----------------------------------------------------------------------------------------------------------

sub read_file {
    my ($path) = @_;
    open my $file, '<:raw', $path or die "$path: $!\n";
    local $/;
    my $text = <$file>;
    return defined $text ? $text : '';
}

# Into a new file that takes the old one's place: a script that is running goes on reading the old one.
sub write_file {
    my ($path, $text) = @_;
    my $mode = (stat $path)[2] & 07777;
    open my $file, '>:raw', "$path.renaming" or die "$path: $!\n";
    print {$file} $text or die "$path: $!\n";
    close $file or die "$path: $!\n";
    chmod $mode, "$path.renaming" or die "$path: $!\n";
    rename "$path.renaming", $path or die "$path: $!\n";
}
